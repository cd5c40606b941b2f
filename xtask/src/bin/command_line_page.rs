//! Prints docs/command-line.md, the program's own help as a page:
//! `cargo run --release -p xtask --bin command_line_page -- target/release/fnet > docs/command-line.md`

include!("../../../tests/common/command_line_page.rs");

fn main() -> std::process::ExitCode {
    let Some(program) = std::env::args().nth(1) else {
        eprintln!("name the program, such as target/release/fnet");
        return std::process::ExitCode::FAILURE;
    };
    match command_line_page(&program) {
        Ok(page) => {
            print!("{page}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
