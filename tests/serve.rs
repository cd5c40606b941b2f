//! `fnet serve`: answers like the library's, limits, a key, a graceful end.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{fnet, json, run, sample};
use serde_json::{Value, json};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path, arguments: &str) -> Self {
        let mut child = fnet(folder, &format!("serve --port 0 --threads 2 {arguments}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok()?.strip_prefix("listening at http://").map(String::from));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: line.expect("an address") }
    }

    fn send(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or("", |parts| parts.1).to_string())
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask("POST", path, "", body.to_string().as_bytes());
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Sends SIGTERM; it must end by itself, with success.
    fn stop(mut self) {
        let _ = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vectors(value: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

const TEXTS: [&str; 5] =
    ["She closed the door.", "", "a dog", "The dog was old and slept by the fire.", "ÄÖÜ 日本"];

#[test]
fn answers_are_bit_for_bit_those_of_embed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let rows: String = TEXTS.iter().map(|text| json!({"t": text}).to_string() + "\n").collect();
    std::fs::write(folder.join("texts.jsonl"), rows).unwrap();
    for model in ["", "--pooling mean"] {
        run(
            folder,
            &format!(
                "embed --input texts.jsonl --text t --normalize --output a.npy --overwrite --quiet {model}"
            ),
        );
        let bytes = std::fs::read(folder.join("a.npy")).unwrap();
        let expected: Vec<f32> =
            bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let server = Server::start(folder, model);
        // From many clients at the same time, together and alone.
        std::thread::scope(|scope| {
            for client in 0..8 {
                let (server, expected) = (&server, &expected);
                scope.spawn(move || {
                    let (status, answer) = server.post("/embed", &json!({"inputs": TEXTS}));
                    assert!(status == 200 && vectors(&answer).concat() == *expected);
                    let (_, answer) = server.post("/embed", &json!({"inputs": TEXTS[client % 5]}));
                    assert_eq!(vectors(&answer)[0], expected[client % 5 * 256..][..256]);
                });
            }
        });
        let (status, answer) = server.post("/v1/embeddings", &json!({"input": TEXTS, "model": "any"}));
        let floats: Vec<Vec<f32>> = answer["data"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| vectors(&json!([one["embedding"]])))
            .collect();
        assert!(
            status == 200
                && floats.concat() == expected
                && answer["usage"]["total_tokens"].as_u64() > Some(10)
        );
        let asked = json!({"input": TEXTS[0], "encoding_format": "base64"});
        let (_, answer) = server.post("/v1/embeddings", &asked);
        let decoded = base64::decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let floats: Vec<f32> =
            decoded.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(floats, expected[..256]);
        let (_, answer) = server.post("/embed", &json!({"inputs": TEXTS[0], "dimensions": 64}));
        let short = &vectors(&answer)[0];
        assert!(short.len() == 64 && (short.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        let asked = json!({"query": "an old dog", "texts": TEXTS, "return_text": true});
        let (_, ranked) = server.post("/rerank", &asked);
        assert!(
            ranked.as_array().unwrap().len() == 5
                && ranked[0]["score"].as_f64() >= ranked[1]["score"].as_f64()
        );
        server.stop();
    }
}

#[test]
fn predictors_answer_as_predict_does() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let data = |task: &str| sample(task).display().to_string();
    let mood = format!("--train {}/dev.tsv --text sentence --label label", data("sentiment"));
    let good = format!("--train {}/dev.tsv --no-header --text 4 --label 2", data("acceptability"));
    for (name, rows) in [("mood", mood), ("good", good)] {
        run(
            folder,
            &format!("finetune {rows} --recipe fpt --adapter --bag false --epochs 1 --quiet --out {name}"),
        );
    }
    std::fs::write(folder.join("texts.txt"), TEXTS.join("\n").replace("\n\n", "\nx\n")).unwrap();
    let texts: Vec<&str> = TEXTS.iter().map(|text| if text.is_empty() { "x" } else { text }).collect();
    let server = Server::start(folder, "--adapter mood=mood --adapter good=good");
    std::thread::scope(|scope| {
        for name in ["mood", "good"] {
            let (server, texts) = (&server, &texts);
            scope.spawn(move || {
                run(
                    folder,
                    &format!("predict --model {name} --input texts.txt --output {name}.jsonl --quiet"),
                );
                let lines = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
                let (status, answer) = server.post(&format!("/predict/{name}"), &json!({"inputs": texts}));
                assert_eq!(status, 200, "{answer}");
                for (line, answer) in lines.lines().zip(answer.as_array().unwrap()) {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let best = &answer[0];
                    let label = best["label"].as_str().unwrap();
                    assert!(line.to_string().contains(label), "{line} {answer}");
                    let shown = line["probabilities"][label].as_f64().or(line["probability"].as_f64());
                    assert!(
                        shown.is_none_or(|p| (p - best["score"].as_f64().unwrap()).abs() < 1e-6),
                        "{line} {answer}"
                    );
                }
            });
        }
    });
    let (status, one) = server.post("/predict/mood", &json!({"inputs": "a dog"}));
    assert!(status == 200 && one[0]["score"].as_f64() > one[1]["score"].as_f64());
    assert_eq!(server.post("/predict/mood", &json!({"inputs": [["a", "b"]]})).0, 422);
    assert_eq!(server.post("/predict/other", &json!({"inputs": "a"})).0, 404);
    assert_eq!(server.post("/predict", &json!({"inputs": "a"})).0, 404);
    server.stop();
}

#[test]
fn whatever_comes_in_gets_a_right_status() {
    let place = tempfile::tempdir().unwrap();
    let limits = "--max-texts 20 --max-bytes 20000 --max-waiting 40000 --timeout 2 --api-key secret";
    let server = Server::start(place.path(), limits);
    let key = "authorization: Bearer secret\r\n";
    let long = "a ".repeat(1_000);
    let many: Vec<&str> = vec!["a"; 10_000];
    let cases: Vec<(u16, Vec<u8>)> = [
        (400, ""),
        (400, "{\"inputs\": "),
        (400, "{\"inputs\": \"a\", \"dimensions\": 1e999}"),
        (422, "{\"inputs\": 3}"),
        (422, "[]"),
        (422, "{\"inputs\": []}"),
        (422, "{\"inputs\": \"a\", \"dimensions\": -1}"),
        (422, "{\"inputs\": \"a\", \"dimensions\": 100000}"),
        (422, "{\"inputs\": \"a\", \"prompt_name\": \"x\"}"),
        (200, "{\"inputs\": \"\\u0000 a\"}"),
    ]
    .map(|(status, body)| (status, body.as_bytes().to_vec()))
    .into_iter()
    .chain([
        (400, b"{\"inputs\": \"\xff\xfe\"}".to_vec()),
        (413, json!({"inputs": many}).to_string().into_bytes()),
        (413, json!({"inputs": &many[..21]}).to_string().into_bytes()),
        (413, json!({"inputs": "a".repeat(30_000)}).to_string().into_bytes()),
        (413, json!({"inputs": long, "truncate": false}).to_string().into_bytes()),
        (200, json!({"inputs": long, "truncate": true}).to_string().into_bytes()),
        (200, json!({"inputs": long}).to_string().into_bytes()),
    ])
    .collect();
    for (expected, body) in cases {
        let (status, text) = server.ask("POST", "/embed", key, &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(status, expected, "{shown}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(answer["error"]["message"].is_string(), expected != 200, "{shown}: {text}");
    }
    assert_eq!(server.ask("POST", "/embed", "", b"{}").0, 401);
    assert_eq!(server.ask("POST", "/embed", "authorization: Bearer secreT\r\n", b"{}").0, 401);
    assert_eq!(server.ask("GET", "/health", "", b"").0, 200);
    assert_eq!(server.ask("GET", "/nothing", key, b"").0, 404);
    assert_eq!(server.ask("GET", "/embed", key, b"").0, 405);
    assert_eq!(server.ask("POST", "/v1/embeddings", key, b"{\"input\": [[1, 2]]}").0, 422);
    // Half of a body, half of a head, and no request at all: none keeps its place for ever.
    let half = format!("POST /embed HTTP/1.1\r\nhost: a\r\n{key}content-length: 100\r\n\r\n{{\"in");
    assert_eq!(server.send(half.as_bytes()).0, 408);
    for start in [&b"POST /em"[..], b"", b"\x16\x03\x01 no http"] {
        let (status, _) = server.send(start);
        assert!([0, 400, 408].contains(&status), "{status}");
    }
    let (_, metrics) = server.ask("GET", "/metrics", key, b"");
    assert!(metrics.contains("fnet_requests_total{route=\"/embed\",status=\"413\"} 4"), "{metrics}");
    assert!(metrics.contains("route=\"other\",status=\"404\"") && metrics.contains("fnet_waiting_tokens 0"));
    server.stop();
}

#[test]
fn too_much_at_once_is_refused_and_the_rest_answered() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(place.path(), "--pooling mean --max-waiting 3000 --batch-tokens 500");
    let texts = vec!["a dog by the fire in the old house"; 200];
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..24).map(|_| scope.spawn(|| server.post("/embed", &json!({"inputs": texts})).0)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.post("/embed", &json!({"inputs": "a"})).0, 200);
    server.stop();
}

#[test]
fn clients_of_other_servers_work_unchanged() {
    let python = std::env::var("FNET_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = |name: &str| {
        let found = std::process::Command::new(&python).args(["-c", &format!("import {name}")]).output();
        found.is_ok_and(|output| output.status.success())
    };
    if !has("openai") || !has("huggingface_hub") {
        eprintln!(
            "skipped: {python} has no openai and huggingface_hub; name one that has by FNET_CLIENTS_PYTHON"
        );
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(place.path(), "");
    let code = "import sys, numpy\nfrom openai import OpenAI\nfrom huggingface_hub import InferenceClient\n\
        url = 'http://' + sys.argv[1]\n\
        a = OpenAI(base_url=url + '/v1', api_key='any').embeddings.create(model='mini', input=['a dog', 'b'])\n\
        b = InferenceClient(url).feature_extraction('a dog')\n\
        print(len(a.data), float(numpy.abs(numpy.array(a.data[0].embedding) - numpy.array(b).reshape(-1)).max()) < 1e-6)\n";
    let output = std::process::Command::new(&python).args(["-c", code, &server.address]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "2 True",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.stop();
}

#[test]
fn what_cannot_be_served_is_said() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let fails =
        |arguments: &str, says: &str| common::fails(folder, &format!("serve --port 0 {arguments}"), says);
    fails("--adapter x", "NAME=DIR");
    fails("--adapter x/y=z", "NAME=DIR");
    fails("--adapter x=nowhere", "nowhere");
    fails("--dimensions 0", "--dimensions 0");
    fails("--max-texts 0", "--max-texts 0");
    let server = Server::start(folder, "");
    let port = server.address.rsplit(':').next().unwrap().to_string();
    let output = fnet(folder, &format!("serve --port {port}")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(&port), "the port is taken");
    assert!(json(&run(folder, "inspect --json"))["head"].is_string());
}
