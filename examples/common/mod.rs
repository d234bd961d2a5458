//! What the examples share: how they are run.
//!
//! Without arguments, machines are simulated. `--libvirt STATE_DIR` uses libvirt, with the image that
//! `anweddol image build` made in that state directory. `--once` ends after a conversation with itself, or at once.

// Each example uses its part.
#![allow(dead_code)]

use std::path::PathBuf;
use std::time::Duration;

use anweddol::client::{ClientConfig, ask};
use anweddol::config::Mode;
use anweddol::facade::{Server, ServerBuilder, ServerError, Simulation, Virtualization};
use anweddol::wire::{CREATE, DESTROY, Request, Response};

/// Any error.
pub(crate) type Error = Box<dyn std::error::Error>;

/// What was asked for on the command line.
pub(crate) struct Arguments {
    /// Where libvirt's machines are recorded; simulated ones, if nowhere.
    pub(crate) libvirt: Option<PathBuf>,
    /// End by itself.
    pub(crate) once: bool,
}

impl Arguments {
    /// Reads them.
    pub(crate) fn read() -> Result<Self, Error> {
        // The first thing a program with an embedded libvirt does, before any thread: else libvirt logs beside it.
        anweddol::daemon::prepare();
        let mut arguments = Arguments { libvirt: None, once: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--once" => arguments.once = true,
                "--libvirt" => arguments.libvirt = Some(words.next().ok_or("--libvirt needs a STATE_DIR")?.into()),
                other => return Err(format!("'{other}': write [--once] [--libvirt STATE_DIR]").into()),
            }
        }
        Ok(arguments)
    }

    /// A server on loopback; on any port, if it is only for itself.
    pub(crate) fn server(&self) -> ServerBuilder {
        let builder = Server::builder().bind_address([127, 0, 0, 1].into());
        let builder = if self.once { builder.listen_port(0) } else { builder };
        match &self.libvirt {
            Some(state) => builder.state_dir(state).virtualization(Virtualization::Libvirt(Mode::Auto)),
            None => {
                let state = std::env::temp_dir().join(format!("anweddol-example-{}", std::process::id()));
                builder.state_dir(state).virtualization(Virtualization::Simulated(Simulation::default()))
            }
        }
    }

    /// Serves until it is killed; or holds the conversation, and stops.
    pub(crate) fn serve(
        &self,
        server: &Server,
        conversation: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.once {
            println!("serving on 127.0.0.1:6150; end it with Ctrl-C");
            return Ok(server.start()?);
        }
        server.start_background()?;
        let address = server.local_addr().ok_or(ServerError::NotRunning)?.to_string();
        let held = conversation(&address);
        server.stop()?;
        self.clean();
        held
    }

    /// Removes what a simulation left.
    pub(crate) fn clean(&self) {
        if self.libvirt.is_none() {
            let state = std::env::temp_dir().join(format!("anweddol-example-{}", std::process::id()));
            // It may never have been made.
            std::fs::remove_dir_all(state).ok();
        }
    }
}

/// Asks a server, as a program would that is its client.
pub(crate) fn say(address: &str, request: &Request) -> Result<Response, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = ClientConfig { answer_timeout: Duration::from_secs(300), ..ClientConfig::default() };
    Ok(runtime.block_on(ask(address, request, &config))?)
}

/// CREATE, then DESTROY.
pub(crate) fn create_and_destroy(address: &str) -> Result<(), Error> {
    let created = say(address, &Request::bare(CREATE))?;
    println!("CREATE: {}", created.message);
    let mut pair = created.data;
    pair.retain(|name, _| name == "container_uuid" || name == "client_token");
    println!("DESTROY: {}", say(address, &Request::new(DESTROY, pair))?.message);
    Ok(())
}
