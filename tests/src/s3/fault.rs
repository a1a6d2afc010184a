//! What a test can make the server do wrong, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::op::{Call, Op};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The request is read whole and refused: 500 InternalError, 503 SlowDown, 403 AccessDenied. Nothing is done.
    Status(u16),
    /// The connection is reset before the body is read. Nothing is done.
    Reset,
    /// The connection is reset after so many bytes of the request's body, and nothing is done. A body that is
    /// no longer than that passes.
    ResetInBody(u64),
    /// The request is read whole, and never answered. Nothing is done.
    Hang,
    /// Both bodies crawl at so many bytes a second.
    Slow(u64),
    /// The work is done; the connection is reset instead of the answer.
    LoseAnswer,
    /// The work is done; the answer never comes.
    DoneButSilent,
    /// The work is done; the connection is reset after so many bytes of the answer's body, if it has more.
    CutAnswer(u64),
    /// The status is 200, and the body says InternalError, as AWS may answer CompleteMultipartUpload. Nothing
    /// is done.
    ErrorIn200,
    /// The request waits at the gate, and then goes its usual way.
    Hold(Gate),
}

/// Which requests of an operation a fault is for, counted from when it was injected.
#[derive(Debug, Clone)]
pub struct Matching {
    op: Option<Op>,
    part: Option<u32>,
    key: Option<String>,
    when: When,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Nth(u64),
    Every(u64),
    First(u64),
    After(u64),
}

impl Op {
    /// Every request.
    pub fn always(self) -> Matching {
        self.when(When::Always)
    }

    /// The `n`-th request alone, from 1.
    pub fn nth(self, n: u64) -> Matching {
        self.when(When::Nth(n))
    }

    /// The `k`-th, the 2`k`-th, ….
    pub fn every(self, k: u64) -> Matching {
        self.when(When::Every(k.max(1)))
    }

    /// The first `n`.
    pub fn first(self, n: u64) -> Matching {
        self.when(When::First(n))
    }

    /// All but the first `n`.
    pub fn after(self, n: u64) -> Matching {
        self.when(When::After(n))
    }

    fn when(self, when: When) -> Matching {
        Matching { op: Some(self), part: None, key: None, when }
    }
}

impl Matching {
    /// Every request, of any operation.
    pub fn anything() -> Self {
        Self { op: None, part: None, key: None, when: When::Always }
    }

    /// Every `k`-th request, of any operation.
    pub fn every(k: u64) -> Self {
        Self { when: When::Every(k.max(1)), ..Self::anything() }
    }

    /// Only requests on that part.
    pub fn part(self, number: u32) -> Self {
        Self { part: Some(number), ..self }
    }

    /// Only requests whose key contains `text`.
    pub fn key(self, text: &str) -> Self {
        Self { key: Some(text.to_owned()), ..self }
    }

    fn covers(&self, call: &Call) -> bool {
        self.op.is_none_or(|op| op == call.op)
            && self.part.is_none_or(|part| Some(part) == call.part)
            && self.key.as_ref().is_none_or(|key| call.key.contains(key))
    }
}

impl When {
    fn is_met(self, count: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(n) => count == n,
            Self::Every(k) => count.is_multiple_of(k),
            Self::First(n) => count <= n,
            Self::After(n) => count > n,
        }
    }
}

impl Fault {
    fn is_over(&self) -> bool {
        matches!(self, Self::Hold(gate) if *gate.0.open.borrow())
    }
}

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct Injected(Arc<Rule>);

impl Injected {
    /// How many requests it has met.
    pub fn fired(&self) -> u64 {
        self.0.fired.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Rule {
    matching: Matching,
    fault: Fault,
    seen: AtomicU64,
    fired: AtomicU64,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<Arc<Rule>>>,
}

impl Faults {
    pub fn inject(&self, matching: Matching, fault: Fault) -> Injected {
        let rule = Arc::new(Rule { matching, fault, seen: AtomicU64::new(0), fired: AtomicU64::new(0) });
        self.rules().push(rule.clone());
        Injected(rule)
    }

    pub fn clear(&self) {
        self.rules().clear();
    }

    /// The fault for this request. Every rule that covers it counts it; of those that are due the first wins. A gate
    /// that is open holds nobody, so it leaves the request to later rules.
    pub fn pick(&self, call: &Call) -> Option<Fault> {
        let mut picked = None;
        for rule in self.rules().iter().filter(|rule| rule.matching.covers(call)) {
            let count = rule.seen.fetch_add(1, Ordering::SeqCst) + 1;
            if picked.is_none() && rule.matching.when.is_met(count) && !rule.fault.is_over() {
                rule.fired.fetch_add(1, Ordering::SeqCst);
                picked = Some(rule.fault.clone());
            }
        }
        picked
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Rule>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where held requests wait. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    waiting: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(GateState { waiting: watch::Sender::new(0), open: watch::Sender::new(false) }))
    }
}

impl Gate {
    /// Waits until a request stands at the gate.
    pub async fn reached(&self, deadline: Duration) -> Result<()> {
        let mut waiting = self.0.waiting.subscribe();
        let reached = tokio::time::timeout(deadline, waiting.wait_for(|&n| n > 0)).await;
        reached
            .with_context(|| format!("no request came to the gate within {deadline:?}"))?
            .context("the gate is gone")?;
        Ok(())
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        let mut open = self.0.open.subscribe();
        self.0.waiting.send_modify(|n| *n += 1);
        // The sender lives in self, so there is no error to meet.
        let _ = open.wait_for(|&open| open).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(op: Op, part: u32) -> Call {
        Call { op, key: "a/b".into(), part: Some(part) }
    }

    #[test]
    fn an_open_gate_leaves_the_request_to_the_next_rule() {
        let (faults, first, second) = (Faults::default(), Gate::default(), Gate::default());
        faults.inject(Op::GetObject.always(), Fault::Hold(first.clone()));
        faults.inject(Op::GetObject.always(), Fault::Hold(second.clone()));
        let stands_at = |gate: &Gate| {
            let picked = faults.pick(&call(Op::GetObject, 1));
            matches!(picked, Some(Fault::Hold(held)) if Arc::ptr_eq(&held.0, &gate.0))
        };
        assert!(stands_at(&first));
        first.open();
        assert!(stands_at(&second));
        second.open();
        assert!(faults.pick(&call(Op::GetObject, 1)).is_none());
    }

    fn fired(matching: Matching, calls: &[Call]) -> Vec<usize> {
        let faults = Faults::default();
        faults.inject(matching, Fault::Reset);
        (0..calls.len()).filter(|&i| faults.pick(&calls[i]).is_some()).collect()
    }

    #[test]
    fn each_condition_counts_as_it_says() {
        let calls: Vec<Call> = (0..7).map(|i| call(if i == 0 { Op::GetObject } else { Op::UploadPart }, i)).collect();
        assert_eq!(fired(Op::UploadPart.nth(2), &calls), [2]);
        assert_eq!(fired(Op::UploadPart.every(3), &calls), [3, 6]);
        assert_eq!(fired(Op::UploadPart.first(2), &calls), [1, 2]);
        assert_eq!(fired(Op::UploadPart.after(4), &calls), [5, 6]);
        assert_eq!(fired(Op::UploadPart.always().part(5), &calls), [5]);
        assert_eq!(fired(Matching::every(2), &calls), [1, 3, 5]);
        assert!(fired(Op::UploadPart.always().key("c"), &calls).is_empty());
    }

    #[test]
    fn the_first_rule_that_is_due_wins_and_all_count() {
        let faults = Faults::default();
        let first = faults.inject(Op::UploadPart.nth(2), Fault::Reset);
        let second = faults.inject(Op::UploadPart.always(), Fault::Hang);
        assert!(matches!(faults.pick(&call(Op::UploadPart, 1)), Some(Fault::Hang)));
        assert!(matches!(faults.pick(&call(Op::UploadPart, 1)), Some(Fault::Reset)));
        assert_eq!((first.fired(), second.fired()), (1, 1));
        faults.clear();
        assert!(faults.pick(&call(Op::UploadPart, 1)).is_none());
    }
}
