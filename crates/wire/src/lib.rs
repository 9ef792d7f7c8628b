//! HTTP as the binding servers speak it.
//!
//! A cell calls its bindings over one unix socket; the engine injects a header that says which binding
//! is meant, so that nothing tenant code writes is believed. This crate holds what all binding servers
//! share: body types, replies, reading with a limit, the socket server. It knows no binding.
//!
//! Entry points: [`Service`], [`BindingTable`], [`serve_unix`], [`serve_cell`], [`UnixClient`].

mod body;
mod cell;
mod client;
mod connections;
mod crowd;
mod exchange;
mod flow;
mod framing;
mod general;
mod head;
mod held;
mod inbox;
mod lanes;
mod loan;
mod patient;
mod rewound;
mod sendfile;
mod server;
mod service;
mod serving;
mod share;
mod socket;
mod through;
mod unread;
mod upload;
mod whole;
mod wrap;

pub use body::{
    Body, BoxError, ReadError, Request, Response, empty, full, header_bytes, json, read_all, reason, reply,
    stream,
};
pub use cell::{AtHome, part_of_files, serve_cell};
pub use client::{ClientBody, RelayError, SendError, UnixClient};
pub use connections::{Connections, serve_connections};
pub use crowd::{Crowd, CrowdLimits, Entered};
pub use flow::piece;
pub use head::{date, write_header, write_status};
pub use held::Held;
pub use inbox::room_for;
pub use loan::{Loan, lend};
pub use patient::{Patience, Rate, patient};
pub use rewound::Rewound;
pub use sendfile::{AsTcp, Content, NamedFile, Piece, SENDFILE_HEADER, SENDFILE_LEAST, SendFile};
pub use server::{ServeError, bind_unix, serve_tcp, serve_unix};
pub use service::{BINDING_HEADER, BindingTable, BoxFuture, Service};
pub use serving::{Asked, Next, Parts, Serving};
pub use socket::{Socket, together};
pub use through::{Habit, Through};
pub use unread::held;
pub use whole::Whole;
pub use wrap::{NextFrame, Wrap, wrapped};
