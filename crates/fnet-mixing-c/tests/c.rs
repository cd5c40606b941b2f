//! The header is that of the code, and a C program that includes it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[test]
fn the_header_is_that_of_the_code() {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).unwrap();
    let made = cbindgen::Builder::new().with_src(here("src/lib.rs")).with_config(config).generate().unwrap();
    let (mut text, file) = (Vec::new(), here("include/fnet_mixing.h"));
    made.write(&mut text);
    if std::env::var_os("FNET_WRITE_HEADER").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        text,
        "make it anew: FNET_WRITE_HEADER=1 cargo test -p fnet-mixing-c"
    );
}

#[test]
fn a_c_program_mixes() {
    // Beside this test's program are the library's.
    let place = std::env::current_exe().unwrap();
    let built = place.parent().unwrap().read_dir().unwrap().flatten().map(|entry| entry.path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libfnet_mixing_c") && name.ends_with(".a")
    };
    let modified = |path: &PathBuf| path.metadata().and_then(|about| about.modified()).unwrap();
    let library = built.filter(is_library).max_by_key(modified).expect("a static library");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("mix");
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let mut compile = Command::new(compiler);
    compile.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]);
    compile.arg("-I").arg(here("include")).arg(here("examples/mix.c")).arg(library);
    compile.args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&program);
    let output = compile.output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
