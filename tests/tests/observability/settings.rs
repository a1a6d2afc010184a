//! What `--print-config` shows, and what is said of settings that make no sense.

use anyhow::{Result, ensure};
use backstay_tests::Folder;
use backstay_tests::stand::{run, run_with};

const PASSWORD: &str = "hunter2hunter2";

/// A folder with a coordinator's and an agent's configuration, each with a password in it.
async fn configurations() -> Result<(Folder, [(&'static str, &'static str, String); 2])> {
    let folder = Folder::new("settings")?;
    let dir = folder.path().join("coordinator").display().to_string();
    run("backstay-coordinator", &["init", "--dir", &dir]).await?.ok()?;
    let coordinator = format!("{dir}/coordinator.toml");
    let text = std::fs::read_to_string(&coordinator)?;
    let with_password = text.replace("[nats]\n", &format!("[nats]\nuser = \"c\"\npassword = \"{PASSWORD}\"\n"));
    std::fs::write(&coordinator, with_password)?;
    let agent = folder.path().join("agent.toml").display().to_string();
    let text = format!("cluster = \"prod\"\n\n[nats]\nuser = \"a\"\npassword = \"{PASSWORD}\"\n");
    std::fs::write(&agent, text)?;
    let programs = [("backstay-coordinator", "serve", coordinator), ("backstay-agent", "run", agent)];
    Ok((folder, programs))
}

#[tokio::test]
async fn what_is_in_force_is_printed_without_secrets_and_can_be_used_again() -> Result<()> {
    let (folder, programs) = configurations().await?;
    for (program, verb, config) in &programs {
        let text = std::fs::read_to_string(config)?;
        let is_no_login = |line: &&str| !line.starts_with("user = ") && !line.starts_with("password = ");
        let without_login = text.lines().filter(is_no_login).collect::<Vec<_>>().join("\n");
        let with_login = format!("nats://u:{PASSWORD}@h:1,nats://h2:2");
        for (text, url, login) in [
            (text.as_str(), "nats://h:1,nats://h2:2", "password = \"<hidden>\""),
            (without_login.as_str(), with_login.as_str(), "url = \"nats://<hidden>@h:1,nats://h2:2\""),
        ] {
            std::fs::write(config, text)?;
            let flags = [verb, "--config", config, "--nats", url, "--print-config"];
            let printed = run(program, &flags).await?.ok()?;
            ensure!(!printed.contains(PASSWORD), "{printed}");
            // The flag counts, then the file, then the defaults.
            for part in ["h:1,nats://h2:2\"", login, "listen = \"127.0.0.1:947"] {
                ensure!(printed.contains(part), "{program}: no {part} in\n{printed}");
            }
            let again = folder.path().join(format!("{program}.toml"));
            std::fs::write(&again, &printed)?;
            let twice =
                run(program, &[verb, "--config", &again.display().to_string(), "--print-config"]).await?.ok()?;
            assert_eq!(twice, printed);
        }
    }
    Ok(())
}

#[tokio::test]
async fn unknown_keys_and_nonsense_are_errors_with_file_and_line() -> Result<()> {
    let (_folder, programs) = configurations().await?;
    for (program, verb, config) in &programs {
        let good = std::fs::read_to_string(config)?;
        for (wrong, says) in [
            ("[http]\nlisen = \"\"", "unknown field `lisen`"),
            ("[http]\nlisten = \"nowhere\"", "an address and a port"),
            ("[htpp]\nlisten = \"\"", "unknown field `htpp`"),
            ("[http\n", "line "),
        ] {
            std::fs::write(config, format!("{good}\n{wrong}\n"))?;
            // A layer above the file does not take the line away.
            let output = run(program, &[verb, "--config", config, "--nats", "nats://h:1", "--print-config"]).await?;
            let error = output.stderr;
            ensure!(!output.status.success() && output.stdout.is_empty(), "{wrong} was taken: {}", output.stdout);
            let at = format!("Error: {config}: line ");
            ensure!(error.starts_with(&at) && error.contains(says) && error.lines().count() == 1, "{wrong}: {error}");
            let line: usize = error[at.len()..].split(':').next().unwrap_or_default().parse()?;
            ensure!(line > good.lines().count(), "line {line} is not the wrong one: {error}");
        }
    }
    Ok(())
}

/// What Kubernetes sets in every pod beside a Service of this name, with one port.
fn service(name: &str) -> Vec<(String, String)> {
    let ends = [
        ("SERVICE_HOST", "10.0.0.7"),
        ("SERVICE_PORT", "9479"),
        ("SERVICE_PORT_METRICS", "9479"),
        ("PORT", "tcp://10.0.0.7:9479"),
        ("PORT_9479_TCP", "tcp://10.0.0.7:9479"),
        ("PORT_9479_TCP_PROTO", "tcp"),
        ("PORT_9479_TCP_PORT", "9479"),
        ("PORT_9479_TCP_ADDR", "10.0.0.7"),
    ];
    ends.map(|(end, value)| (format!("{name}_{end}"), value.to_owned())).to_vec()
}

#[tokio::test]
async fn variables_of_services_are_passed_over_and_other_unknown_ones_are_told() -> Result<()> {
    let (_folder, programs) = configurations().await?;
    for (program, verb, config) in &programs {
        let flags = [verb, "--config", config, "--print-config"];
        let plain = run(program, &flags).await?.ok()?;
        for name in ["BACKSTAY", "BACKSTAY_COORDINATOR", "BACKSTAY_NATS"] {
            let output = run_with(program, &flags, &service(name)).await?;
            assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (plain.as_str(), ""), "{program}, {name}");
        }
        let misspelt = [("BACKSTAY_NATS__USR".to_owned(), "u".to_owned())];
        let output = run_with(program, &flags, &misspelt).await?;
        let told = "Warning: ignoring the variable BACKSTAY_NATS__USR, which is not a setting: did you mean BACKSTAY_NATS__USER?\n";
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (plain.as_str(), told), "{program}");
        let known = [("BACKSTAY_HTTP__LISTEN".to_owned(), "nowhere".to_owned())];
        let output = run_with(program, &flags, &known).await?;
        let error = "Error: the setting http.listen, from the environment or a flag: ";
        ensure!(!output.status.success() && output.stderr.starts_with(error), "{program}: {}", output.stderr);
    }
    Ok(())
}
