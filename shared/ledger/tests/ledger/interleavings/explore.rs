//! Every schedule of a scenario: a search of the graph of its states, each step of which runs on PostgreSQL.
//!
//! A state is left by each action once. To come back to a state, its schedule is run again from the start, and must lead to the
//! same state. Schedules that meet in a state share what follows.
//!
//! Who of several waiters goes on first is the server's choice. Such a step is repeated [`TRIES_OF_A_FORK`] times, and every
//! state that it leads to is searched; a run that is to come back to one of them and goes astray is made again.

use crate::interleavings::drain::Fate;
use crate::interleavings::history::{Invariant, Violation};
use crate::interleavings::world::{Action, Scenario, World};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) states: usize,
    /// Steps taken from a state, each once.
    pub(crate) steps: usize,
    /// Different ways from the start to an end.
    pub(crate) schedules: u128,
    /// Different contents of the tables, each of which was brought to its end.
    pub(crate) contents: usize,
    /// Runs from the start.
    pub(crate) runs: usize,
    /// Steps that led to more than one state: the server chose who of several waiters went on first.
    pub(crate) forks: usize,
    /// Runs that took the other way at a fork, and were made again.
    pub(crate) astray: usize,
    /// Steps after which somebody waited for a lock.
    pub(crate) waits: usize,
    pub(crate) checks: BTreeMap<Invariant, u64>,
    /// Each with the schedule that led to it; the search ends with the first.
    pub(crate) violations: Vec<(Violation, Vec<String>)>,
    pub(crate) elapsed: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} schedules, {} states, {} steps ({} into a wait), {} contents brought to their end, \
             {} runs ({} astray at {} forks), {:.1?}",
            self.name,
            self.schedules,
            self.states,
            self.steps,
            self.waits,
            self.contents,
            self.runs,
            self.astray,
            self.forks,
            self.elapsed
        )
    }
}

/// A step that may go on in several ways is taken so often: who wakes first is a race of the server's processes.
const TRIES_OF_A_FORK: usize = 8;
/// A run that is to come back to a state goes astray so often at most.
const RUNS_AGAIN_MAX: usize = 200;

struct State {
    /// The state and the action by which it was first reached; none of the start.
    from: Option<(usize, usize)>,
    actions: Vec<Action>,
    /// By action: the states that it led to.
    next: Vec<BTreeSet<usize>>,
}

struct Search {
    world: World,
    states: Vec<State>,
    /// By their text.
    known: HashMap<String, usize>,
    /// Actions that are to be done, deepest last.
    open: Vec<(usize, usize)>,
    /// Steps that are to be repeated, and how often.
    to_repeat: Vec<(usize, usize)>,
    contents: HashSet<String>,
    /// States whose content was not brought to its end yet.
    to_drain: Vec<usize>,
    report: Report,
}

/// Searches all of it, or until a check fails.
pub(crate) async fn explore(scenario: Scenario) -> Report {
    let started = Instant::now();
    let mut search = Search {
        world: World::new(scenario).await,
        states: Vec::new(),
        known: HashMap::new(),
        open: Vec::new(),
        to_repeat: Vec::new(),
        contents: HashSet::new(),
        to_drain: Vec::new(),
        report: Report { name: scenario.name, ..Report::default() },
    };
    search.run().await;
    let mut report = search.report;
    report.states = search.states.len();
    report.contents = search.contents.len();
    report.forks = search.states.iter().flat_map(|state| &state.next).filter(|next| next.len() > 1).count();
    report.schedules = if report.violations.is_empty() { schedules(&search.states) } else { 0 };
    report.elapsed = started.elapsed();
    report
}

impl Search {
    async fn run(&mut self) {
        self.world.reset().await;
        let text = self.world.state().await;
        self.arrive(text, None);
        loop {
            if let Some((state, action)) = self.open.pop() {
                if self.states[state].next[action].is_empty() {
                    self.go_on_from(state, action).await;
                }
            } else if let Some((state, action)) = self.to_repeat.pop() {
                if self.come_back_to(state).await {
                    self.take(state, action).await;
                }
            } else if let Some(state) = self.to_drain.pop() {
                for fate in [Fate::Complete, Fate::Die] {
                    if self.come_back_to(state).await {
                        self.world.drain(fate).await;
                        self.settle(state, None);
                    }
                }
            } else {
                return;
            }
            if !self.report.violations.is_empty() {
                return;
            }
        }
    }

    /// Does one action that is new, and goes on for as long as the states are.
    async fn go_on_from(&mut self, state: usize, action: usize) {
        if !self.come_back_to(state).await {
            return;
        }
        let (mut state, mut action) = (state, action);
        loop {
            self.report.steps += 1;
            let reached = self.states.len();
            let Some((next, may_fork)) = self.take(state, action).await else { return };
            if may_fork {
                self.to_repeat.extend([(state, action); TRIES_OF_A_FORK - 1]);
            }
            self.report.waits += usize::from(self.world.somebody_waits());
            if next < reached {
                return;
            }
            if self.states[next].actions.is_empty() {
                return;
            }
            (state, action) = (next, 0);
        }
    }

    /// Does the action in the state that the world is in. Which state it led to, and whether it could have led to another.
    /// `None`: a check failed.
    async fn take(&mut self, state: usize, action: usize) -> Option<(usize, bool)> {
        let may_fork = self.world.act(self.states[state].actions[action]).await;
        self.world.look().await;
        if !self.settle(state, Some(action)) {
            return None;
        }
        let text = self.world.state().await;
        let known = self.known.get(&text).copied();
        let next = known.unwrap_or_else(|| self.arrive(text, Some((state, action))));
        if known.is_none() && self.states[next].actions.is_empty() {
            self.world.probe().await;
            if !self.settle(next, None) {
                return None;
            }
        }
        self.states[state].next[action].insert(next);
        Some((next, may_fork))
    }

    /// A new state: all that may be done in it is to be done.
    fn arrive(&mut self, text: String, from: Option<(usize, usize)>) -> usize {
        let index = self.states.len();
        let actions = self.world.actions();
        self.open.extend((0..actions.len()).rev().map(|action| (index, action)));
        if self.contents.insert(self.world.committed_text()) {
            self.to_drain.push(index);
        }
        self.states.push(State { from, next: vec![BTreeSet::new(); actions.len()], actions });
        self.known.insert(text, index);
        index
    }

    /// Runs the schedule that leads to the state from the start. `false`: a check failed.
    async fn come_back_to(&mut self, state: usize) -> bool {
        let path = self.path(state);
        for _ in 0..RUNS_AGAIN_MAX {
            if self.follow(&path).await {
                return true;
            }
            if !self.report.violations.is_empty() {
                return false;
            }
            self.report.astray += 1;
        }
        panic!("{}: no run leads to this state again: {:#?}", self.report.name, self.named(state, None));
    }

    /// Whether the run led to the path's end.
    async fn follow(&mut self, path: &[(usize, usize, usize)]) -> bool {
        self.report.runs += 1;
        self.world.reset().await;
        for (place, (state, action, next)) in path.iter().enumerate() {
            let is_last = place + 1 == path.len();
            if is_last || self.world.may_fork() {
                match self.take(*state, *action).await {
                    Some((reached, _)) if reached == *next => {}
                    _ => return false,
                }
            } else {
                self.world.act(self.states[*state].actions[*action]).await;
            }
        }
        true
    }

    /// From the start: each state, the action that leaves it, and the state that it is to lead to.
    fn path(&self, state: usize) -> Vec<(usize, usize, usize)> {
        let mut path = Vec::new();
        let mut next = state;
        while let Some((state, action)) = self.states[next].from {
            path.push((state, action, next));
            next = state;
        }
        path.reverse();
        path
    }

    fn named(&self, state: usize, action: Option<usize>) -> Vec<String> {
        let path = self.path(state).into_iter().map(|(state, action, _)| (state, action));
        path.chain(action.map(|action| (state, action)))
            .map(|(state, action)| self.world.name(self.states[state].actions[action]))
            .collect()
    }

    /// Counts what was checked on the way to the state, and by the action. `false`: a check failed.
    fn settle(&mut self, state: usize, action: Option<usize>) -> bool {
        for (invariant, count) in std::mem::take(&mut self.world.history.checks) {
            *self.report.checks.entry(invariant).or_default() += count;
        }
        let schedule = self.named(state, action);
        let violations = std::mem::take(&mut self.world.history.violations);
        self.report.violations.extend(violations.into_iter().map(|violation| (violation, schedule.clone())));
        self.report.violations.is_empty()
    }
}

/// Ways from the first state to the ends. No schedule comes back to a state: every step is one that is left less.
fn schedules(states: &[State]) -> u128 {
    let mut ways: Vec<Option<u128>> = vec![None; states.len()];
    let mut todo = vec![0];
    while let Some(index) = todo.last().copied() {
        let next: Vec<usize> = states[index].next.iter().flatten().copied().collect();
        let missing: Vec<usize> = next.iter().copied().filter(|next| ways[*next].is_none()).collect();
        if missing.is_empty() {
            ways[index] = Some(
                next.iter().filter_map(|next| ways[*next]).sum::<u128>().max(u128::from(next.is_empty())),
            );
            todo.pop();
        } else {
            todo.extend(missing);
        }
    }
    ways[0].unwrap_or_default()
}
