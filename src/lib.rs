//! Foehn.
