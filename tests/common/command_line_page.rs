// The page of the command line, from the program itself. Shared by the tool that writes it and the test that checks it.

/// What `fnet help` says of every command, as a page.
pub fn command_line_page(program: &str) -> std::io::Result<String> {
    let help = |arguments: &[&str]| -> std::io::Result<String> {
        let output = std::process::Command::new(program).args(arguments).env("COLUMNS", "100").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        Ok(lines.join("\n"))
    };
    let all = help(&["help"])?;
    let commands = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = commands.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let mut page = "# The command line\n\nWhat `fnet help` and `fnet help COMMAND` print. [guide.md](guide.md) says what to choose.\n".to_string();
    page += &format!("\n```text\n{}\n```\n", all.trim());
    for name in names.filter(|name| *name != "help") {
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", help(&["help", name])?.trim());
    }
    Ok(page)
}
