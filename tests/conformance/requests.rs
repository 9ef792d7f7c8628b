//! Requests over the network: static assets, and what an edge does.

use super::answers::{Case, How};
use super::folder;

/// A line of `requests.txt`: a name, and the request.
pub fn all() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("requests.txt")).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(parse).collect()
}

/// `name | method path | header: value; header: value | headers to compare`
fn parse(line: &str) -> Case {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, request, headers, compared] = parts[..] else { panic!("{line}") };
    let (method, path) = request.split_once(' ').unwrap();
    let headers = headers.split(';').filter_map(|header| {
        let (name, value) = header.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let how = How::Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: headers.collect(),
        compared: compared.split_whitespace().map(str::to_owned).collect(),
    };
    Case { group: "Static assets over HTTP".into(), name: name.to_owned(), how }
}
