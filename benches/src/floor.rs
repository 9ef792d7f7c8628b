//! What no proxy can do without: a program that passes bytes on as they come, and looks at none.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// The word that makes the benchmark's own program this one.
pub const COMMAND: &str = "__relay";
/// The key of the listener; a connection's is its descriptor.
const LISTENER: u64 = u64::MAX;
/// Read at once.
const PIECE: usize = 64 << 10;

/// Listens on `port` of this machine, and connects each client to a connection to `upstream` of its own: two reads and two writes a
/// request, on one thread. Does not return, but with an error.
pub fn relay(port: u16, upstream: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |socket: &TcpStream| {
        let key = u64::try_from(socket.as_raw_fd()).unwrap_or(LISTENER);
        let data = epoll::EventData::new_u64(key);
        epoll::add(&poll, socket, data, epoll::EventFlags::IN | epoll::EventFlags::ET).map(|()| key)
    };
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    // Whence, and whither with the key of the other way.
    let mut ways: HashMap<u64, (TcpStream, TcpStream, u64)> = HashMap::new();
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; PIECE]);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                let (client, _) = listener.accept()?;
                let server = TcpStream::connect(upstream)?;
                for socket in [&client, &server] {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                }
                let keys = (watch(&client)?, watch(&server)?);
                ways.insert(keys.0, (client.try_clone()?, server.try_clone()?, keys.1));
                ways.insert(keys.1, (server, client, keys.0));
                continue;
            }
            let Some((from, to, other)) = ways.get(&key) else { continue };
            match recv(from, &mut buffer, RecvFlags::empty()) {
                Err(Errno::AGAIN) => {}
                Ok((_, read @ 1..)) if send(to, &buffer[..read], SendFlags::NOSIGNAL) == Ok(read) => {}
                _ => {
                    let other = *other;
                    ways.remove(&key);
                    ways.remove(&other);
                }
            }
        }
    }
}
