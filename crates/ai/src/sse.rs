//! Server-sent events, as they arrive in pieces.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

/// The longest event that is read. One of a model's is a few hundred bytes; the last one of a call with `logprobs` or of the
/// Responses API repeats the whole answer.
const LONGEST: usize = 4 << 20;

/// What is no event stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    TooLong,
    NotText,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "an event of the stream is too long",
            Self::NotText => "the stream is no text",
        })
    }
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// `event:`; empty where there is none.
    pub name: String,
    /// The lines of `data:`.
    pub data: String,
}

impl Event {
    /// As it is written.
    pub fn write(&self, out: &mut Vec<u8>) {
        if !self.name.is_empty() {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(self.name.as_bytes());
            out.push(b'\n');
        }
        for line in self.data.split('\n') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

/// Reads a stream of events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// A line that has not ended yet.
    line: Vec<u8>,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Not the first line any more, which may begin with a byte order mark.
    begun: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// The events that end in `piece`.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, Broken> {
        let mut events = Vec::new();
        for &byte in piece {
            let lf_of_cr = std::mem::take(&mut self.after_cr) && byte == b'\n';
            match byte {
                _ if lf_of_cr => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line()?);
                }
                _ if self.line.len() + self.event.data.len() >= LONGEST => return Err(Broken::TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    /// An event whose last line is there, but not the empty one after it: some servers end like that.
    pub fn finish(&mut self) -> Result<Option<Event>, Broken> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.dispatch())
    }

    fn end_line(&mut self) -> Result<Option<Event>, Broken> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| Broken::NotText)?;
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment, or what is for reconnecting.
            _ => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events: Vec<Event> = pieces.iter().flat_map(|piece| parser.feed(piece).unwrap()).collect();
        events.extend(parser.finish().unwrap());
        events
    }

    fn data(text: &str) -> Event {
        Event { name: String::new(), data: text.into() }
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let named = Event { name: "add".into(), data: "73857293".into() };
        for (text, expected) in [
            ("data: a\n\ndata:b\r\n\r\ndata:  c\r\r", vec![data("a"), data("b"), data(" c")]),
            (": hi\n\nid: 1\nretry: 5\ndata\n\n", vec![data("")]),
            ("event: add\ndata: 73857293\n\n", vec![named]),
            ("event: lost\n\ndata: x\n\n", vec![data("x")]),
            ("\u{feff}data: YHOO\ndata: +2\ndata\n\n", vec![data("YHOO\n+2\n")]),
            ("data: no end", vec![data("no end")]),
            ("", vec![]),
        ] {
            assert_eq!(all(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_event_stream_is_not_kept() {
        assert_eq!(Parser::default().feed(&vec![b'x'; LONGEST + 1]), Err(Broken::TooLong));
        let lines = "data: 0123456789\n".repeat(LONGEST / 10);
        assert_eq!(Parser::default().feed(lines.as_bytes()), Err(Broken::TooLong));
        assert_eq!(Parser::default().feed(b"data: \xff\n"), Err(Broken::NotText));
    }

    fn event() -> impl Strategy<Value = Event> {
        let name = prop_oneof![Just(String::new()), "[a-z.]{1,10}"];
        (name, "[^\r]{0,30}").prop_map(|(name, data)| Event { name, data })
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(events in prop::collection::vec(event(), 0..8), cut in 1..9_usize, crlf: bool) {
            let mut text = Vec::new();
            events.iter().for_each(|event| event.write(&mut text));
            if crlf {
                text = String::from_utf8(text).unwrap().replace('\n', "\r\n").into_bytes();
            }
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(all(&pieces), events);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in 1..5_usize) {
            let whole = Parser::default().feed(&bytes);
            let mut parser = Parser::default();
            let pieces: Result<Vec<Vec<Event>>, Broken> = bytes.chunks(cut).map(|piece| parser.feed(piece)).collect();
            prop_assert_eq!(whole, pieces.map(|events| events.concat()));
        }
    }
}
