//! `backstay-test-supervise SOCKET stop|start|status`: asks a member's supervisor, as `systemctl` asks systemd.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

fn main() -> ExitCode {
    match ask() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ask() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, word] = words.as_slice() else {
        anyhow::bail!("usage: backstay-test-supervise SOCKET stop|start|status")
    };
    let mut stream = UnixStream::connect(socket).with_context(|| format!("failed to connect to {socket}"))?;
    writeln!(stream, "{word}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.trim() == "ok", "{}", answer.trim());
    Ok(())
}
