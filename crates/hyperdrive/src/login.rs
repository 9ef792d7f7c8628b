//! The beginning of a connection with a database: start-up and authentication.
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::{Digest, Md5};
use ring::rand::{SecureRandom, SystemRandom};
use skep_runtime::{Turns, who_is};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::messages::{Asked, MAX_MESSAGE, asked, message, refusal, startup};
use crate::scram::{Proof, Scram};
use crate::tls::Io;
use crate::{Failure, Origin};

/// Turns at proving that a password is known.
static PROVING: Turns = Turns::new();

const MECHANISM: &str = "SCRAM-SHA-256";

fn broken(error: &std::io::Error) -> Failure {
    Failure::Other(format!("the database broke off: {error}"))
}

fn strange(what: &str) -> Failure {
    Failure::Other(format!("the server does not speak PostgreSQL's protocol: {what}"))
}

/// Reads one message, and nothing beyond it.
async fn read(stream: &mut Box<dyn Io>) -> Result<(u8, Vec<u8>), Failure> {
    let tag = stream.read_u8().await.map_err(|e| broken(&e))?;
    let length = stream.read_u32().await.map_err(|e| broken(&e))? as usize;
    let length = length.checked_sub(4).filter(|length| *length <= MAX_MESSAGE);
    let mut body = vec![0; length.ok_or_else(|| strange("a message is too long"))?];
    stream.read_exact(&mut body).await.map_err(|e| broken(&e))?;
    Ok((tag, body))
}

async fn send(stream: &mut Box<dyn Io>, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(|e| broken(&e))?;
    stream.flush().await.map_err(|e| broken(&e))
}

/// Logs in, with what a client says of itself. Returns what of the server's answer is for the client's eyes before it is
/// let in; what comes after that is not read.
pub(crate) async fn login(
    stream: &mut Box<dyn Io>,
    origin: &Origin,
    parameters: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<u8>, Failure> {
    send(stream, &startup(&origin.user, &origin.database, parameters)).await?;
    let mut before = Vec::new();
    let mut proof: Option<Proof> = None;
    let mut scram: Option<Scram> = None;
    let mut answered = false;
    loop {
        let (tag, body) = read(stream).await?;
        match tag {
            b'R' => {}
            b'E' => {
                let (code, text) = refusal(&body);
                return Err(Failure::of(&code, &text));
            }
            // Notices, and which settings the server does not know.
            b'N' | b'v' => {
                before.extend(message(tag, &body));
                if before.len() > MAX_MESSAGE {
                    return Err(strange("it talks too much"));
                }
                continue;
            }
            _ => return Err(strange("an unexpected message")),
        }
        match asked(&body).ok_or_else(|| strange("an authentication message"))? {
            // Who began to prove that it knows the password has to end that.
            Asked::Nothing if scram.is_some() && !answered => return Err(strange("it proves nothing")),
            Asked::Nothing => return Ok(before),
            Asked::Password => send(stream, &password(origin.password.as_bytes())).await?,
            Asked::Md5(salt) => send(stream, &password(md5(origin, salt).as_bytes())).await?,
            Asked::Sasl(known) if known.iter().any(|name| name == MECHANISM) && scram.is_none() => {
                let new = Scram::new(&origin.password, nonce()?);
                let first = new.first();
                let length = u32::try_from(first.len()).unwrap_or(0).to_be_bytes();
                let body = [MECHANISM.as_bytes(), &[0], &length, first.as_bytes()].concat();
                send(stream, &message(b'p', &body)).await?;
                scram = Some(new);
            }
            Asked::Continue(said) if proof.is_none() => {
                let own = scram.take().ok_or_else(|| strange("SASL without a beginning"))?;
                let said = String::from_utf8(said).map_err(|_| strange("SASL that is no text"))?;
                // It takes as long as the server says: in turns, and who has many servers of that kind waits behind himself.
                let proved = PROVING.aside(who_is(&origin.host), move || (own.prove(&said), own)).await;
                let (made, own) = proved.map_err(|e| Failure::Other(e.to_string()))?;
                let made = made.ok_or_else(|| strange("SASL"))?;
                send(stream, &message(b'p', made.answer.as_bytes())).await?;
                (scram, proof) = (Some(own), Some(made));
            }
            Asked::Final(said) => {
                let said = String::from_utf8(said).map_err(|_| strange("SASL that is no text"))?;
                answered = proof.as_ref().is_some_and(|proof| proof.is_answered_by(&said));
                if !answered {
                    return Err(Failure::Other("the server does not know the password itself".into()));
                }
            }
            Asked::Sasl(_) | Asked::Continue(_) | Asked::Unknown(_) => {
                return Err(Failure::Other(
                    "the database asks for a kind of authentication that is not supported: set scram-sha-256, md5 or \
                     password in its pg_hba.conf"
                        .into(),
                ));
            }
        }
    }
}

fn password(text: &[u8]) -> Vec<u8> {
    message(b'p', &[text, &[0]].concat())
}

fn md5(origin: &Origin, salt: [u8; 4]) -> String {
    let inner = Md5::new().chain_update(&origin.password).chain_update(&origin.user).finalize();
    let outer = Md5::new().chain_update(hex::encode(inner)).chain_update(salt).finalize();
    format!("md5{}", hex::encode(outer))
}

fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::Other("no randomness".into()))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

/// Waits until the database takes queries, sends it an empty one, and takes leave.
pub(crate) async fn try_query(stream: &mut Box<dyn Io>) -> Result<(), Failure> {
    let mut asked = false;
    loop {
        match read(stream).await.map_err(|e| Failure::Query(e.to_string()))? {
            (b'E', body) => {
                let (code, text) = refusal(&body);
                return Err(if asked { Failure::Query(text) } else { Failure::of(&code, &text) });
            }
            (b'Z', _) if asked => break,
            (b'Z', _) => {
                asked = true;
                send(stream, &message(b'Q', b";\0")).await.map_err(|e| Failure::Query(e.to_string()))?;
            }
            _ => {}
        }
    }
    let _ = send(stream, &message(b'X', &[])).await;
    Ok(())
}
