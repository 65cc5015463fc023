//! What is not understood.

/// Why an exchange is never at rest again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Opaque {
    /// It is not HTTP/1.x, or breaks its grammar.
    #[error("not a message of HTTP/1.x")]
    Malformed,
    /// A head, a chunk's line or the trailers are longer than is looked at.
    #[error("a head that is too long")]
    HeadTooLong,
    /// The framing fields conflict or cannot be understood.
    #[error("the end of a body is in doubt")]
    Framing,
    /// The connection ends behind a message.
    #[error("the connection closes behind a message")]
    Closes,
    /// CONNECT was asked, or 101 answered: other protocols follow.
    #[error("the connection changes to another protocol")]
    Upgraded,
    /// The client has authenticated the connection itself.
    #[error("the connection is authenticated")]
    Authenticated,
    /// The application sends what nobody asked for.
    #[error("an answer without a request")]
    Unsolicited,
    /// The last answer began before its request was whole: it cannot be told what becomes of the rest.
    #[error("an answer before the end of its request")]
    Early,
    /// More than [`PIPELINE_MAX`](crate::PIPELINE_MAX) requests wait for answers.
    #[error("too many requests at once")]
    Pipeline,
}
