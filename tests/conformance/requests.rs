//! Requests over the network: static assets, and what an edge does.

use super::answers::{Case, How};
use super::folder;

pub fn all() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("requests.txt")).unwrap();
    let mut group = "";
    let mut cases = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => group = name,
            None => cases.push(parse(group, line)),
        }
    }
    cases
}

/// `name | method path | header: value; header: value | headers to compare`
fn parse(group: &str, line: &str) -> Case {
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
    Case { group: group.to_owned(), name: name.to_owned(), how }
}
