//! Many requests in one batch.

mod request;

pub use request::{Constraint, Event, Request, RequestId, TokenLogprob};
