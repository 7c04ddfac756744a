//! In simulated time, over a manager that says what it is told to.

use std::sync::Mutex;

use super::super::lists::State;
use super::super::recorded::small;
use super::*;

/// What the manager says next, and when it was asked.
#[derive(Clone, Default)]
struct Manager(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    lists: Lists,
    trouble: Option<Trouble>,
    asked: Vec<Instant>,
}

impl Fetch for Manager {
    async fn lists(&mut self, _before: &Lists) -> Result<Lists, Trouble> {
        let mut said = self.0.lock().unwrap();
        said.asked.push(Instant::now());
        match &said.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => Ok(said.lists.clone()),
        }
    }
}

/// A swarm at rest, and what is followed of it.
struct Rig {
    manager: Manager,
    moved: watch::Sender<u64>,
    polled: watch::Receiver<Polled>,
}

impl Rig {
    async fn start() -> Self {
        let manager = Manager::default();
        manager.0.lock().unwrap().lists = small();
        let (moved, moves) = watch::channel(0);
        let (out, polled) = watch::channel(Polled::default());
        tokio::spawn(poll(manager.clone(), moves, out, Arc::default()));
        let mut rig = Self {
            manager,
            moved,
            polled,
        };
        rig.polled.changed().await.unwrap();
        rig
    }

    /// How often it is asked within this time.
    async fn asked_within(&self, time: Duration) -> usize {
        let before = self.manager.0.lock().unwrap().asked.len();
        sleep(time).await;
        self.manager.0.lock().unwrap().asked.len() - before
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.manager.0.lock().unwrap());
    }

    fn tell(&self) {
        self.moved.send_modify(|count| *count += 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_swarm_at_rest_is_asked_every_fifteen_seconds() {
    let rig = Rig::start().await;
    let asked = rig.asked_within(Duration::from_secs(60)).await;
    assert!((3..=4).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_asked_for_every_second() {
    let rig = Rig::start().await;
    rig.say(|said| said.lists.tasks[0].status.state = State::Starting);
    rig.tell();
    let asked = rig.asked_within(Duration::from_secs(10)).await;
    assert!((9..=11).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_finds_no_place_is_asked_for_less_often() {
    let rig = Rig::start().await;
    rig.say(|said| said.lists.tasks[0].status.state = State::Pending);
    rig.tell();
    sleep(LONG * 2).await;
    let asked = rig.asked_within(Duration::from_secs(60)).await;
    assert!((11..=13).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_followed_at_once() {
    let mut rig = Rig::start().await;
    sleep(Duration::from_secs(1)).await;
    rig.say(|said| said.lists.services.clear());
    rig.polled.mark_unchanged();
    let told = Instant::now();
    rig.tell();
    rig.polled.changed().await.unwrap();
    assert!(
        told.elapsed() <= Duration::from_millis(60),
        "{:?}",
        told.elapsed()
    );
    let desired = rig.polled.borrow().desired.clone().unwrap();
    assert!(desired.services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_events_are_five_questions_a_second_at_most() {
    let rig = Rig::start().await;
    let before = rig.manager.0.lock().unwrap().asked.len();
    for _ in 0..1000 {
        rig.tell();
        sleep(Duration::from_millis(10)).await;
    }
    let asked = rig.manager.0.lock().unwrap().asked.len() - before;
    assert!((40..=51).contains(&asked), "{asked} in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_leader_lost_is_told_and_what_was_seen_stays() {
    let mut rig = Rig::start().await;
    let before = rig.polled.borrow().desired.clone().unwrap();
    rig.say(|said| said.trouble = Some(Trouble::NoLeader));
    rig.polled.mark_unchanged();
    rig.tell();
    rig.polled.changed().await.unwrap();
    let polled = rig.polled.borrow().clone();
    assert_eq!(polled.trouble, Some(Trouble::NoLeader));
    assert!(Arc::ptr_eq(&polled.desired.unwrap(), &before));
    // Asked again soon, then every five seconds.
    let asked = rig.asked_within(Duration::from_secs(2)).await;
    assert!((4..=6).contains(&asked), "{asked}");
    sleep(Duration::from_secs(10)).await;
    let asked = rig.asked_within(Duration::from_secs(60)).await;
    assert!((11..=13).contains(&asked), "{asked}");
    // One is elected.
    rig.say(|said| said.trouble = None);
    rig.polled.mark_unchanged();
    let elected = Instant::now();
    rig.polled.changed().await.unwrap();
    assert!(elected.elapsed() <= Duration::from_secs(5));
    assert_eq!(rig.polled.borrow().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_the_same_picture() {
    let mut rig = Rig::start().await;
    let before = rig.polled.borrow().desired.clone().unwrap();
    // A change that makes no difference to anybody.
    rig.say(|said| said.lists.tasks[0].status.state = State::Running);
    rig.say(|said| said.lists.networks[0].name = "app".to_owned());
    rig.say(|said| said.lists.nodes[0].spec.labels = [("rack".to_owned(), "7".to_owned())].into());
    rig.polled.mark_unchanged();
    rig.tell();
    rig.polled.changed().await.unwrap();
    assert!(Arc::ptr_eq(
        rig.polled.borrow().desired.as_ref().unwrap(),
        &before
    ));
}
