//! The server as a library, from outside: handlers and their moments, starting and stopping, and every example.

mod bad_input;
mod closing;
mod events;
mod examples;
mod guest;
mod life;
mod requests;
mod support;
