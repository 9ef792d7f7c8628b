//! Processes in a container that runs: what Docker is asked for, from what a cell has sent. Pure.

use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::create::texts;
use crate::policy::Refusal;

/// Longest name of a folder or a user.
const LONGEST: usize = 4096;

/// The body of a request that makes a process.
pub(crate) fn create(sent: &[u8]) -> Result<Json, Refusal> {
    let sent = read(sent)?;
    let command = texts(&sent, "Cmd")?.unwrap_or_default();
    if command.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "No exec command specified"));
    }
    let flag = |key: &str| sent[key].as_bool().unwrap_or_default();
    let mut body = json!({
        "AttachStdin": flag("AttachStdin"),
        "AttachStdout": flag("AttachStdout"),
        "AttachStderr": flag("AttachStderr"),
        "Tty": flag("Tty"),
        "Privileged": false,
        "Cmd": command,
    });
    if let Some(variables) = texts(&sent, "Env")?.filter(|all| !all.is_empty()) {
        body["Env"] = variables.into();
    }
    for key in ["WorkingDir", "User"] {
        match sent[key].as_str() {
            Some(text) if text.len() > LONGEST => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{key} is too long")));
            }
            Some(text) if !text.is_empty() => body[key] = text.into(),
            _ => {}
        }
    }
    Ok(body)
}

/// The body of a request that starts one, and whether its input and output come along.
pub(crate) fn start(sent: &[u8]) -> Result<(Json, bool), Refusal> {
    let sent = read(sent)?;
    let detached = sent["Detach"].as_bool().unwrap_or_default();
    let tty = sent["Tty"].as_bool().unwrap_or_default();
    let mut body = json!({ "Detach": detached, "Tty": tty });
    let size: Vec<u16> = sent["ConsoleSize"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|own| own.as_u64().and_then(|own| u16::try_from(own).ok()))
        .collect();
    if let (true, [rows, columns]) = (tty, size.as_slice()) {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    Ok((body, !detached))
}

/// What a cell is told of a process.
pub(crate) fn told(inspected: &Json) -> Json {
    let mut told = json!({});
    for key in ["ID", "Running", "ExitCode", "Pid", "OpenStdin", "OpenStdout", "OpenStderr", "CanRemove"] {
        if !inspected[key].is_null() {
            told[key] = inspected[key].clone();
        }
    }
    told
}

fn read(sent: &[u8]) -> Result<Json, Refusal> {
    serde_json::from_slice(sent).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_no_more_rights_than_its_container() {
        let sent = json!({
            "Cmd": ["ls"], "AttachStdout": true, "Privileged": true, "DetachKeys": "x", "User": "me", "WorkingDir": "/a",
            "Env": ["A=1"],
        });
        assert_eq!(
            create(sent.to_string().as_bytes()).unwrap(),
            json!({
                "AttachStdin": false, "AttachStdout": true, "AttachStderr": false, "Tty": false, "Privileged": false,
                "Cmd": ["ls"], "Env": ["A=1"], "WorkingDir": "/a", "User": "me",
            })
        );
        assert!(create(b"{}").is_err() && create(br#"{"Cmd":[]}"#).is_err() && create(b"x").is_err());
    }

    #[test]
    fn the_size_of_a_terminal_goes_with_a_terminal() {
        let sent = |text: &str| start(text.as_bytes()).unwrap();
        assert_eq!(
            sent(r#"{"Detach":false,"Tty":true,"ConsoleSize":[24,80]}"#),
            (json!({ "Detach": false, "Tty": true, "ConsoleSize": [24, 80] }), true)
        );
        assert_eq!(
            sent(r#"{"Detach":true,"Tty":false,"ConsoleSize":[24,80]}"#),
            (json!({ "Detach": true, "Tty": false }), false)
        );
    }
}
