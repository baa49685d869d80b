//! esockets
#![deny(unsafe_code)]
pub mod socket;
pub mod sys;
