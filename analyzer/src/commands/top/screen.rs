//! The screen that is renewed.

use std::io;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use crate::commands::top::plain::{KEYS, cells, summary};
use crate::commands::top::threads::Threads;
use crate::commands::top::view::{Source, View};
use crate::console::exit::{Exit, Failure};

/// What the keys do.
const KEYS_LINE: &str = "q quit  s sort by the next column  p pause  a all or running  up, down";

/// What the user has done to the screen.
#[derive(Default)]
struct State {
    is_paused: bool,
    table: TableState,
}

/// Renews the screen until the user quits.
///
/// # Errors
/// When the terminal fails or there is nothing to look at any more.
pub fn run(
    source: &mut Source,
    threads: &mut Threads,
    mut view: View,
    interval: Duration,
) -> Result<(), Failure> {
    // ratatui restores the terminal in a panic too.
    let mut terminal = ratatui::try_init().map_err(|error| failure(&error))?;
    let mut state = State::default();
    let mut looked = Instant::now();
    let mut end = || -> Result<(), Failure> {
        loop {
            terminal
                .draw(|frame| draw(frame, threads, &view, &mut state))
                .map_err(|error| failure(&error))?;
            let left = interval.saturating_sub(looked.elapsed());
            if event::poll(left).map_err(|error| failure(&error))? {
                let event = event::read().map_err(|error| failure(&error))?;
                if has_quit(&event, &mut view, &mut state) {
                    return Ok(());
                }
            }
            if looked.elapsed() >= interval {
                looked = Instant::now();
                if !state.is_paused {
                    source.look(threads)?;
                }
            }
        }
    };
    let ended = end();
    ratatui::restore();
    ended
}

fn failure(error: &io::Error) -> Failure {
    Failure::new(Exit::BadOutput, format!("the terminal: {error} (--once prints the state once)"))
}

/// Does what a key says; true if it says to end.
fn has_quit(event: &Event, view: &mut View, state: &mut State) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('p') => state.is_paused = !state.is_paused,
        KeyCode::Char('a') => view.all = !view.all,
        KeyCode::Char('s') => {
            let at = view.columns.iter().position(|(figure, _)| *figure == view.sort);
            let next = at.map_or(0, |at| (at + 1) % view.columns.len().max(1));
            if let Some((figure, _)) = view.columns.get(next) {
                view.sort = *figure;
            }
        }
        KeyCode::Down => state.table.scroll_down_by(1),
        KeyCode::Up => state.table.scroll_up_by(1),
        KeyCode::PageDown => state.table.scroll_down_by(20),
        KeyCode::PageUp => state.table.scroll_up_by(20),
        _ => {}
    }
    false
}

fn draw(frame: &mut Frame<'_>, threads: &Threads, view: &View, state: &mut State) {
    let shown = threads.shown(view.sort, view.all);
    let areas =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]);
    let [top, middle, bottom] = areas.areas(frame.area());
    let paused = if state.is_paused { "paused  " } else { "" };
    let line = format!("{paused}{}", summary(threads, view, &shown));
    frame.render_widget(Paragraph::new(Line::raw(line)), top);
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let mark = |figure| if figure == view.sort { strong.underlined() } else { strong };
    let heads = KEYS.iter().map(|key| Cell::from(*key).style(strong)).chain(
        view.columns.iter().map(|(figure, head)| {
            Cell::from(Line::raw(head.clone()).right_aligned()).style(mark(*figure))
        }),
    );
    let line = |one: &crate::commands::top::threads::Shown<'_>| {
        let cells = cells(one, view).into_iter().enumerate().map(|(at, cell)| {
            let line = Line::raw(cell);
            Cell::from(if at < KEYS.len() { line } else { line.right_aligned() })
        });
        // Without colours, for terminals of any kind: who runs a task stands out.
        let style = if one.thread.task.is_some() { strong } else { Style::new() };
        Row::new(cells.collect::<Vec<_>>()).style(style)
    };
    let widths = [8, 8, 8, 15, 14].map(Constraint::Length);
    let widths = widths.into_iter().chain(view.columns.iter().map(|_| Constraint::Length(9)));
    let table = Table::new(shown.iter().map(line), widths).header(Row::new(heads));
    frame.render_stateful_widget(table, middle, &mut state.table);
    frame.render_widget(Paragraph::new(KEYS_LINE), bottom);
}
