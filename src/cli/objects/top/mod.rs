//! `anweddol top`: pools, machines and events on a terminal, live.
//!
//! ```text
//!  keys ────┐
//!  [`feed`] ┼──► Message ──► [`state`] (pure) ──► [`view`] ──► terminal
//!  a tick ──┘
//! ```
//!
//! The feed asks and watches the daemon's local API, and goes on when a daemon comes back.

mod feed;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::Daemon;
use crate::cli::{ConfigArgs, Result, admin};
use feed::Feed;
use state::{Key, Message, Next, State};
use view::Paint;

/// How often ages are drawn anew, where nothing else happens.
const TICK: Duration = Duration::from_millis(500);
/// Messages that wait to be drawn; a feed that is faster waits for the terminal.
const WAITING: usize = 1024;

#[derive(Args)]
#[command(after_help = "Keys: ↑ ↓ or j k select, Tab goes to the next panel, / filters, ? helps, q ends.

Where there is no terminal, 'anweddol get containers -w' and 'anweddol events -w' tell the same line by line.")]
pub(in crate::cli) struct TopArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn top(args: TopArgs) -> Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(
            "this is no terminal: 'anweddol get containers -w' and 'anweddol events -w' tell the same line by \
                    line"
                .into(),
        );
    }
    let config = admin::config(&args.config)?;
    let (sender, receiver) = channel(WAITING);
    let feed = Feed::new(Daemon::of(&args.config)?, &config);
    tokio::spawn(feed.run(sender.clone()));
    let mut terminal = ratatui::try_init()?;
    keys(sender);
    let ended = show(&mut terminal, receiver, State::new(config.state_dir.display().to_string())).await;
    ratatui::try_restore()?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Draws until somebody has seen enough.
async fn show(terminal: &mut DefaultTerminal, mut messages: Receiver<Message>, mut state: State) -> Result<()> {
    let paint = if std::env::var_os("NO_COLOR").is_some() { Paint::Plain } else { Paint::Colours };
    let (mut term, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut tick = tokio::time::interval(TICK);
    loop {
        terminal.draw(|frame| view::draw(frame, &state, paint))?;
        let message = tokio::select! {
            message = messages.recv() => message.unwrap_or(Message::Key(Key::Quit)),
            _ = tick.tick() => Message::Now(Timestamp::now()),
            _ = term.recv() => Message::Key(Key::Quit),
            _ = hangup.recv() => Message::Key(Key::Quit),
        };
        let mut next = state.apply(message);
        // Whatever came meanwhile is drawn together.
        while let (Next::GoOn, Ok(message)) = (next, messages.try_recv()) {
            next = state.apply(message);
        }
        if next == Next::End {
            return Ok(());
        }
    }
}

/// Reads keys, in a thread of its own: a terminal is read by blocking. It ends with the process.
fn keys(sender: Sender<Message>) {
    std::thread::spawn(move || {
        loop {
            let key = match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => meaning(key.code, key.modifiers),
                Ok(Event::Resize(..)) => Some(Key::Redraw),
                Ok(_) => None,
                // The terminal is gone.
                Err(_) => Some(Key::Quit),
            };
            if key.is_some_and(|key| sender.blocking_send(Message::Key(key)).is_err()) {
                return;
            }
        }
    });
}

fn meaning(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char(letter) => Some(Key::Letter(letter)),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::First),
        KeyCode::End => Some(Key::Last),
        KeyCode::Tab => Some(Key::NextPanel),
        KeyCode::BackTab => Some(Key::PreviousPanel),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Backspace),
        _ => None,
    }
}
