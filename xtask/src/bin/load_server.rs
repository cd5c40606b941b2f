//! Loads a running `fnet serve` and says how fast it answers, and how long clients wait.
//!
//!     load_server ADDRESS FILE.txt CLIENTS TEXTS_A_REQUEST SECONDS [base64]
//!
//! Vectors come as numbers of JSON, or with `base64` as OpenAI's clients ask for them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (arguments, as_base64) = match arguments.split_last() {
        Some((last, others)) if last == "base64" => (others, true),
        _ => (arguments.as_slice(), false),
    };
    let [address, file, clients, texts, seconds] = arguments else {
        eprintln!("load_server ADDRESS FILE.txt CLIENTS TEXTS_A_REQUEST SECONDS [base64]");
        std::process::exit(2);
    };
    let route = if as_base64 { "/v1/embeddings" } else { "/embed" };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (clients, texts, seconds) = (number(clients), number(texts), number(seconds));
    let all = std::fs::read_to_string(file).expect("a file of texts");
    let lines: Vec<&str> = all.lines().filter(|line| !line.is_empty()).collect();
    let body = |part: &[&str]| match as_base64 {
        true => serde_json::json!({"input": part, "model": "fnet", "encoding_format": "base64"}).to_string(),
        false => serde_json::json!({"inputs": part}).to_string(),
    };
    let bodies: Vec<String> = lines.chunks(texts).map(body).collect();
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    let results: Vec<(u64, Vec<f64>)> = std::thread::scope(|scope| {
        let client = |first: usize| {
            let bodies = &bodies;
            scope.spawn(move || {
                let stream = TcpStream::connect(address).expect("a server");
                stream.set_nodelay(true).expect("a socket");
                let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
                let (mut stream, mut refused, mut times) = (stream, 0, Vec::new());
                for body in bodies.iter().cycle().skip(first * bodies.len() / clients) {
                    if Instant::now() >= end {
                        break;
                    }
                    let begun = Instant::now();
                    let head =
                        format!("POST {route} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
                    stream.write_all((head + body).as_bytes()).expect("a connection");
                    if answer(&mut reader) == 200 {
                        times.push(begun.elapsed().as_secs_f64())
                    } else {
                        refused += 1
                    }
                }
                (refused, times)
            })
        };
        let running: Vec<_> = (0..clients).map(client).collect();
        running.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let refused: u64 = results.iter().map(|result| result.0).sum();
    let mut times: Vec<f64> = results.into_iter().flat_map(|result| result.1).collect();
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| times.get((times.len() as f64 * share) as usize).map_or(f64::NAN, |time| 1e3 * time);
    println!(
        "{clients} clients, {texts} texts a request: {:.0} texts/s, median {:.2} ms, 99 % {:.2} ms, {refused} refused",
        (times.len() * texts) as f64 / seconds as f64,
        at(0.5),
        at(0.99),
    );
}

/// Reads a response; returns its status.
fn answer(reader: &mut impl BufRead) -> u16 {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a response");
        let lower = line.to_lowercase();
        if let Some(rest) = lower.strip_prefix("http/1.1 ") {
            status = rest.split(' ').next().and_then(|code| code.trim().parse().ok()).unwrap_or(0);
        } else if let Some(rest) = lower.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap_or(0);
        } else if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    status
}
