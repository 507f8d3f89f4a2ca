//! Key sets in paused time, with a scripted fetch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use jsonwebtoken::EncodingKey;
use tokio::time::{advance, sleep};

use super::*;

/// The result of the next fetches: a body after a delay.
#[derive(Clone)]
struct Server {
    says: Rc<RefCell<(Duration, Result<String, &'static str>)>>,
    asked: Rc<Cell<u32>>,
}

impl Server {
    fn says(&self, late: Duration, body: Result<&str, &'static str>) {
        *self.says.borrow_mut() = (late, body.map(str::to_owned));
    }

    async fn fetch(self) -> Result<Bytes, FetchError> {
        self.asked.set(self.asked.get() + 1);
        let (late, body) = self.says.borrow().clone();
        sleep(late).await;
        Ok(body?.into())
    }
}

/// A set of keys with these ids.
fn body(ids: &[&str]) -> String {
    let key = EncodingKey::from_ec_pem(
        rcgen::KeyPair::generate().expect("a key").serialize_pem().as_bytes(),
    );
    let jwk = Jwk::from_encoding_key(&key.expect("P-256"), Algorithm::ES256).expect("a JWK");
    let key = |id: &&str| {
        let mut jwk = jwk.clone();
        jwk.common.key_id = Some((*id).to_owned());
        jwk
    };
    serde_json::json!({ "keys": ids.iter().map(key).collect::<Vec<_>>() }).to_string()
}

/// Runs a test beside the one that keeps a set.
async fn kept<T: Future<Output = ()>>(body: &str, test: impl FnOnce(Arc<KeySet>, Server) -> T) {
    let url = "https://idp.example.com/jwks".parse().expect("a URL");
    let set = Arc::new(KeySet::new("issuer", &url));
    let server = Server {
        says: Rc::new(RefCell::new((Duration::ZERO, Ok(body.to_owned())))),
        asked: Rc::default(),
    };
    let (_sender, sets) = watch::channel(vec![Arc::clone(&set)]);
    let (asked, metrics) = (server.clone(), Metrics::default());
    let keeping = keep(sets, move |_| asked.clone().fetch(), &metrics);
    tokio::select! {
        biased;
        never = keeping => match never {},
        () = test(set, server) => {}
    }
}

async fn found(set: &KeySet, id: &str) -> Result<usize, AuthError> {
    set.keys(Some(id), Algorithm::ES256).await.map(|keys| keys.len())
}

#[tokio::test(start_paused = true)]
async fn it_is_fetched_at_once_and_then_now_and_then() {
    kept(&body(&["a"]), async |set, server| {
        assert_eq!(found(&set, "a").await, Ok(1));
        assert_eq!(server.asked.get(), 1);
        sleep(REFRESH / 2).await;
        assert_eq!(server.asked.get(), 1);
        sleep(REFRESH / 2 + Duration::from_secs(1)).await;
        assert_eq!(server.asked.get(), 2, "nobody had to ask");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_asks_but_not_again_and_again() {
    kept(&body(&["a"]), async |set, server| {
        assert_eq!(found(&set, "a").await, Ok(1));
        server.says(Duration::ZERO, Ok(&body(&["a", "b"])));
        assert_eq!(found(&set, "b").await, Ok(1), "the new key");
        assert_eq!(server.asked.get(), 2);
        for _ in 0..100 {
            assert_eq!(found(&set, "c").await, Err(AuthError::UnknownKeyId));
        }
        assert_eq!(server.asked.get(), 2, "the floor");
        advance(FLOOR).await;
        assert_eq!(found(&set, "c").await, Err(AuthError::UnknownKeyId));
        assert_eq!(server.asked.get(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiters_share_one_fetch_and_do_not_wait_for_ever() {
    kept(&body(&["a"]), async |set, server| {
        assert_eq!(found(&set, "a").await, Ok(1));
        server.says(Duration::from_secs(1), Ok(&body(&["a", "b"])));
        let all = join_all((0..50).map(|_| found(&set, "b"))).await;
        assert!(all.iter().all(|found| *found == Ok(1)), "{all:?}");
        assert_eq!(server.asked.get(), 2);

        sleep(FLOOR).await;
        server.says(Duration::from_hours(1), Err("unheard"));
        let before = Instant::now();
        let waiting = join_all((0..50).map(|_| found(&set, "c")));
        let known = async {
            for _ in 0..10 {
                assert_eq!(found(&set, "a").await, Ok(1));
            }
            assert_eq!(before.elapsed(), Duration::ZERO, "who needs nothing new waits for nothing");
        };
        let (all, ()) = tokio::join!(waiting, known);
        assert!(all.iter().all(|found| *found == Err(AuthError::Unavailable)), "{all:?}");
        assert_eq!(before.elapsed(), WAIT);
        assert_eq!(server.asked.get(), 3);
        // The fetch itself is given up too, and the known keys stay.
        sleep(FETCH).await;
        assert_eq!(found(&set, "a").await, Ok(1));
        assert_eq!(found(&set, "c").await, Err(AuthError::Unavailable));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_more_and_more_rarely() {
    kept(&body(&["a"]), async |set, server| {
        assert_eq!(found(&set, "a").await, Ok(1));
        server.says(Duration::ZERO, Err("down"));
        sleep(REFRESH + Duration::from_millis(1)).await;
        assert_eq!(server.asked.get(), 2);
        for (wait, asked) in [(10, 3), (20, 4), (40, 5), (80, 6), (160, 7), (300, 8), (300, 9)] {
            sleep(Duration::from_secs(wait)).await;
            assert_eq!(server.asked.get(), asked, "{wait}");
            assert_eq!(found(&set, "a").await, Ok(1), "the old keys stay");
        }
        server.says(Duration::ZERO, Ok(&body(&["b"])));
        sleep(REFRESH).await;
        assert_eq!(found(&set, "b").await, Ok(1));
        assert_eq!(found(&set, "a").await, Err(AuthError::UnknownKeyId), "withdrawn");
    })
    .await;
}

/// Reloads in the middle of a fetch leave it alone: were it begun anew each time, it would never end.
#[tokio::test(start_paused = true)]
async fn reloads_leave_a_fetch_alone() {
    let url = "https://idp.example.com/jwks".parse().expect("a URL");
    let set = Arc::new(KeySet::new("issuer", &url));
    let (sender, sets) = watch::channel(vec![Arc::clone(&set)]);
    let (asked, metrics, answer) = (Cell::new(0), Metrics::default(), body(&["a"]));
    let fetch = |_| {
        asked.set(asked.get() + 1);
        let answer = answer.clone();
        async move {
            sleep(Duration::from_secs(2)).await;
            Ok(answer.into())
        }
    };
    let test = async {
        let reload = async {
            for _ in 0..3 {
                sleep(Duration::from_millis(500)).await;
                sender.send_replace(vec![Arc::clone(&set)]);
            }
        };
        let (found, ()) = tokio::join!(found(&set, "a"), reload);
        assert_eq!(found, Ok(1));
    };
    tokio::select! {
        never = keep(sets, fetch, &metrics) => match never {},
        () = test => {}
    }
    assert_eq!(asked.get(), 1);
}
