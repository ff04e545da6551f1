//! Sampling, streaming, stopping, sessions.
