//! `email()` under `skep dev`: messages are handed in by hand, as to `wrangler dev`.

use serde_json::{Value, json};

use crate::harness::{Answer, Skep, dev_with, small_project};

const CODE: &str = r#"
import { EmailMessage } from "cloudflare:email";

const told = async (run) => { try { return await run(); } catch (error) { return String(error); } };

export default {
  async fetch() {
    return new Response("hello");
  },
  async email(message, env, ctx) {
    const { from, to, headers } = message;
    const head = (own = "") => `Message-ID: <r@x>\r\nFrom: B <${to}>\r\n${own}Subject: re\r\n\r\nreplied\r\n`;
    const reply = (own, sender = to) => told(() => message.reply(new EmailMessage(sender, from, head(own))));
    switch (headers.get("x-what")) {
      case "see":
        ctx.waitUntil(Promise.resolve());
        message.setReject(JSON.stringify({
          from, to, size: message.rawSize, raw: await new Response(message.raw).text(), headers: [...headers], env: env.NAME,
        }));
        return;
      case "size":
        return message.setReject(String((await new Response(message.raw).bytes()).length));
      case "throw":
        message.setReject("late");
        throw new TypeError("not today");
      case "forward":
        await message.forward("c@example.com", new Headers({ "X-Tag": "1" }));
        return;
      case "reply": {
        const said = [
          await reply(), await reply("In-Reply-To: <z@x>\r\n"), await reply("In-Reply-To: <m@x>\r\n", "z@example.com"),
          await reply("In-Reply-To: <m@x>\r\nReferences: <z@x>\r\n"),
          await reply("In-Reply-To: <m@x>\r\nReceived: by x\r\n"),
          await told(() => message.reply({ from: to, subject: "x", text: "y", headers: { Received: "by x" } })),
          await told(() => message.reply({ from: to, subject: "x\r\nBcc: z@example.com", text: "y" })),
        ];
        message.setReject(JSON.stringify(said));
        await message.reply(new EmailMessage(to, from, new Response(head(`In-Reply-To: <m@x>\r\n`)).body));
        await message.reply({
          from: { name: "B", email: to }, subject: "built", text: "plain", html: "<b>rich</b>", headers: { "X-Own": "1", Date: "never" },
          attachments: [{ filename: "a.bin", type: "application/octet-stream", content: new Uint8Array([0, 255]) }],
        });
        return;
      }
      case "one reply":
        return message.setReject(String(await reply("In-Reply-To: <m@x>\r\n")));
    }
  },
};
"#;

const PATH: &str = "/cdn-cgi/handler/email?from=a@example.com&to=b@example.com";

fn mail(skep: &Skep, what: &str, more: &str) -> Answer {
    let message = format!(
        "From: Ann <a@example.com>\r\nBcc: z@example.com\r\nTo: b@example.com\r\nMessage-ID: <m@x>\r\nX-What: {what}\r\n{more}\
         Subject: hi\r\n\r\nHello\r\n"
    );
    skep.post(&format!("{PATH}&format=json"), &message)
}

fn project(code: &str) -> (tempfile::TempDir, tempfile::TempDir) {
    let config = r#"{ "name": "mailed", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "NAME": "own" } }"#;
    (small_project(config, &[("index.js", code)]), tempfile::tempdir().unwrap())
}

#[test]
fn a_handler_gets_the_message_and_rejects_it() {
    let (project, state) = project(CODE);
    let skep = dev_with(project.path(), state.path(), &[]);
    let answer = mail(&skep, "see", "X-Two: 1\r\nx-two: 2\r\nX-Long: a\r\n  b\r\n");
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let seen: Value = serde_json::from_str(answer["rejectReason"].as_str().unwrap()).unwrap();
    let raw = "From: Ann <a@example.com>\r\nTo: b@example.com\r\nMessage-ID: <m@x>\r\nX-What: see\r\nX-Two: 1\r\nx-two: 2\r\nX-Long: a\r\n  b\r\n\
               Subject: hi\r\n\r\nHello\r\n";
    let headers = [
        ["from", "Ann <a@example.com>"],
        ["message-id", "<m@x>"],
        ["subject", "hi"],
        ["to", "b@example.com"],
        ["x-long", "a b"],
        ["x-two", "1, 2"],
        ["x-what", "see"],
    ];
    let expected = json!({
        "from": "a@example.com", "to": "b@example.com", "size": raw.len(), "raw": raw, "headers": headers, "env": "own",
    });
    assert_eq!(seen, expected);
    let events: Vec<&str> =
        answer["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!((events, &answer["outcome"]), (vec!["received", "reject"], &json!("ok")));

    let plain = |path: &str, message: &str| {
        let answer = skep.post(path, message);
        (answer.status, answer.text())
    };
    let see = "From: a@example.com\r\nMessage-ID: <m@x>\r\nX-What: size\r\n\r\n";
    assert_eq!(
        plain(PATH, see),
        (400, format!("Worker rejected email with the following reason: {}", see.len()))
    );
    let message = |what: &str| see.replace("size", what);
    assert_eq!(plain(PATH, &message("none")), (200, "Worker successfully processed email".into()));
    assert_eq!(plain(PATH, &message("throw")), (500, "TypeError: not today".into()));
    skep.wait_for_output("TypeError: not today");
    assert_eq!(mail(&skep, "throw", "").json()["rejectReason"], "late");
    assert_eq!(mail(&skep, "throw", "").status, 500);

    let invalid = "Invalid email. Your request must include URL parameters specifying the `from` and `to` addresses, as well as an \
                   email in the body";
    let no_id = "Email could not be parsed: invalid or no message id provided";
    let large = "x".repeat((25 << 20) + 1);
    let too_large = "Email message size is bigger than the production size limit of 25 MiB.";
    for (path, body, said) in [
        ("/cdn-cgi/local/email?to=b", see, invalid),
        ("/cdn-cgi/local/email?from=a&to=", see, invalid),
        (PATH, "", invalid),
        (PATH, "From: a@example.com\r\n\r\nx", no_id),
        (PATH, "junk", no_id),
        (PATH, &large, too_large),
    ] {
        assert_eq!(plain(path, body), (400, said.to_owned()), "{path}");
    }
    // As large as Cloudflare takes it.
    let whole = format!("{see}{}", "x".repeat((25 << 20) - see.len()));
    assert_eq!(
        plain(PATH, &whole),
        (400, format!("Worker rejected email with the following reason: {}", 25 << 20))
    );
    let asked = |headers: &[(&str, &str)]| {
        let answer = skep.send("POST", PATH, headers, Some(see.as_bytes()));
        (answer.status, answer.text())
    };
    assert_eq!(asked(&[("origin", "https://example.com")]), (403, "Invalid Origin header".into()));
    assert_eq!(asked(&[("host", "example.com")]), (403, "Invalid Host header".into()));
    assert_eq!(asked(&[("origin", "http://localhost:3000")]).0, 400);
    assert_eq!(skep.get("/").text(), "hello");
}

#[test]
fn what_is_forwarded_or_replied_is_kept() {
    let (project, state) = project(CODE);
    let skep = dev_with(project.path(), state.path(), &[]);
    let kept = |id: &Value| {
        let name = format!("{}.eml", id.as_str().unwrap().trim_matches(['<', '>']));
        std::fs::read_to_string(state.path().join("email").join(name)).unwrap()
    };
    let answer = mail(&skep, "forward", "").json();
    let forward = &answer["forwards"][0];
    assert_eq!(
        (&forward["recipient"], &forward["headers"]),
        (&json!("c@example.com"), &json!([["x-tag", "1"]]))
    );
    let raw = "x-tag: 1\r\nFrom: Ann <a@example.com>\r\nTo: b@example.com\r\nMessage-ID: <m@x>\r\nX-What: forward\r\nSubject: hi\r\n\r\nHello\r\n";
    assert_eq!(kept(&forward["messageId"]), raw);
    skep.wait_for_output(
        "Email handler forwarded message with\n  rcptTo: c@example.com\n  headers:\n    x-tag: 1\n",
    );

    let answer = mail(&skep, "reply", "").json();
    let said: Vec<String> = serde_json::from_str(answer["rejectReason"].as_str().unwrap()).unwrap();
    let expected = [
        "no In-Reply-To header found in reply message",
        "In-Reply-To does not match original Message-ID",
        "From: header does not match mail from",
        "provided References header is invalid",
        "invalid headers set",
        "invalid headers set",
        "invalid headers set",
    ];
    assert_eq!(said, expected.map(|text| format!("Error: {text}")));
    let [whole, built] = answer["replies"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    let id = whole["messageId"].as_str().unwrap();
    let raw = format!(
        "Message-ID: {id}\r\nFrom: B <b@example.com>\r\nIn-Reply-To: <m@x>\r\nSubject: re\r\n\r\nreplied\r\n"
    );
    let raw = format!("References: <m@x>\r\n{raw}");
    assert_eq!((&whole["sender"], kept(&whole["messageId"])), (&json!("b@example.com"), raw));
    assert_eq!(built["sender"], "\"B\" <b@example.com>");
    let text = kept(&built["messageId"]);
    for part in [
        "From: B <b@example.com>\r\n",
        "To: a@example.com\r\n",
        "Subject: built\r\n",
        "In-Reply-To: <m@x>\r\n",
        "References: <m@x>\r\n",
        "x-own: 1\r\n",
        "multipart/alternative",
        "\r\nplain\r\n",
        "<b>rich</b>",
        "AP8=",
    ] {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part}: {text}");
    }
    assert!(!text.contains("never"), "{text}");
    skep.wait_for_output("Email handler replied to sender with the following message:\n  ");

    let long = format!("In-Reply-To: <1@x>\r\nReferences: {}\r\n", "<1@x> ".repeat(100));
    for more in ["Auto-Submitted: auto-replied\r\n", "In-Reply-To: <1@x>\r\n", &long] {
        let answer = mail(&skep, "one reply", more).json();
        assert_eq!(answer["rejectReason"], "Error: Original email is not replyable", "{more}");
    }
    skep.wait_for_output("The incoming email's \"References\" header has more than 100 entries.");
}

#[test]
fn a_worker_without_a_handler_says_so() {
    let (project, state) = project("export default { fetch() { return new Response('hello'); } };");
    let skep = dev_with(project.path(), state.path(), &[]);
    let answer = mail(&skep, "none", "");
    assert_eq!((answer.status, &answer.json()["events"][0]["type"]), (500, &json!("unhandled")));
    let plain = skep.post(PATH, "Message-ID: <m@x>\r\n\r\n").text();
    assert_eq!(plain, "Worker does not export an email() handler; message not delivered.");
}

#[test]
fn an_entrypoint_class_gets_mail() {
    let code = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export default class extends WorkerEntrypoint {
  fetch() { return new Response("hello"); }
  async email(message) { message.setReject(`${this.env.NAME} ${message.to}`); }
}"#;
    let (project, state) = project(code);
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(mail(&skep, "none", "").json()["rejectReason"], "own b@example.com");
}
