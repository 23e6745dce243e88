//! Facts about what is lent, and to whom.

use super::*;

fn admission() -> Arc<Admission> {
    Admission::new(4, 100, Arc::new(Metrics::new().unwrap()))
}

#[test]
fn a_permit_is_given_back_when_its_last_holder_is_gone() {
    let admission = admission();
    let permit = admission.admit(4, 10).unwrap();
    let job = Arc::clone(&permit);
    drop(permit);
    assert_eq!(admission.admit(1, 1).err().unwrap().kind, ErrorKind::Overloaded);
    drop(job);
    assert!(admission.admit(4, 100).is_ok());
}

#[test]
fn a_permit_may_grow_as_far_as_there_is_room() {
    let admission = admission();
    let permit = admission.admit_body(10).unwrap();
    permit.grow(60).unwrap();
    assert_eq!(permit.grow(31).unwrap_err().kind, ErrorKind::RequestTooLarge);
    assert!(admission.admit_body(31).is_err() && admission.admit_body(30).is_ok());
    drop(permit);
    assert!(admission.admit_body(100).is_ok());
}

#[test]
fn what_a_request_may_never_have_in_all_is_too_large_whatever_its_parts_are() {
    let admission = admission();
    let body = admission.admit_body(40).unwrap();
    let tiles = body.admit(2, 40).unwrap();
    assert_eq!(tiles.admit(0, 21).err().unwrap().kind, ErrorKind::RequestTooLarge);
    assert_eq!(body.grow(61).unwrap_err().kind, ErrorKind::RequestTooLarge);
    let working = tiles.admit(0, 20).unwrap();
    assert_eq!(admission.admit(1, 1).err().unwrap().kind, ErrorKind::Overloaded);
    drop((tiles, working));
    assert!(body.admit(4, 60).is_ok());
}

#[test]
fn a_permit_of_nothing_is_given_back_like_any_other() {
    let admission = admission();
    let nothing = [(); 2].map(|()| admission.admit(0, 0).unwrap());
    drop(admission.admit(1, 1).unwrap());
    drop(nothing);
    assert!(admission.state.lock().unwrap().by_caller.is_empty());
}

#[test]
fn what_would_never_fit_is_not_told_to_come_back() {
    let error = admission().admit(1, 101).err().unwrap();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RequestTooLarge, None));
}

#[test]
fn the_wait_follows_the_measured_rate() {
    let admission = admission();
    admission.state.lock().unwrap().rate.record(1, Duration::from_secs(2));
    let _permit = admission.admit(4, 1).unwrap();
    assert_eq!(admission.admit(1, 1).err().unwrap().retry_after, Some(Duration::from_secs(8)));
}

#[test]
fn a_greedy_caller_leaves_room_for_the_others() {
    let admission = Admission::new(64, 1 << 20, Arc::new(Metrics::new().unwrap()));
    let caller = |address| Caller::at([10, 0, 0, address].into());
    let ask = |address, tiles| caller(address).run(|| admission.admit(tiles, 16)).ok();
    let held: Vec<_> = std::iter::from_fn(|| ask(1, 1)).collect();
    assert_eq!(held.len(), 56, "seven eighths");
    assert!(ask(2, 8).is_some(), "who has nothing gets what is free");
    let error = caller(1).run(|| admission.admit(1, 0)).err().unwrap();
    assert!(error.detail.contains("you use 56 of 64 tiles"), "{}", error.detail);
    drop(held);
    assert!(caller(1).run(|| admission.admit(64, 0)).is_ok(), "one request may take it all");
}

#[test]
fn a_request_may_take_it_all_whatever_bodies_of_its_caller_wait_beside_it() {
    let admission = admission();
    Caller::at([10, 0, 0, 1].into()).run(|| {
        let bodies = [5, 5].map(|bytes| admission.admit_body(bytes).unwrap());
        let whole = bodies[0].admit(4, 20).unwrap();
        assert_eq!(bodies[1].admit(4, 20).err().unwrap().kind, ErrorKind::Overloaded);
        drop(whole);
        assert!(bodies[1].admit(4, 20).is_ok());
    });
    let caller = Caller::at([10, 0, 0, 2].into());
    let body = caller.run(|| admission.admit_body(40).unwrap());
    assert!(body.admit(4, 60).is_ok(), "its own body makes it no greedy caller");
}

#[test]
fn bytes_are_shared_as_tiles_are_and_what_was_let_in_may_grow() {
    let admission = Admission::new(64, 1000, Arc::new(Metrics::new().unwrap()));
    let caller = |address| Caller::at([10, 0, 0, address].into());
    let permit = caller(1).run(|| admission.admit(1, 900)).unwrap();
    assert!(caller(1).run(|| admission.admit_body(10)).is_err());
    let other = caller(2).run(|| admission.admit_body(10)).unwrap();
    permit.grow(90).unwrap();
    drop((permit, other));
    assert!(admission.admit(64, 1000).is_ok(), "all of it came back");
}

#[test]
fn a_key_may_have_so_many_tiles_in_flight_and_no_more() {
    let admission = Admission::new(64, 1000, Arc::new(Metrics::new().unwrap()));
    let key = Caller { most_tiles: Some(4), ..Caller::at([10, 0, 0, 1].into()) };
    let three = key.run(|| admission.admit(3, 0)).unwrap();
    let error = key.run(|| admission.admit(2, 0)).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert!(error.detail.contains("3 of the 4 tiles that the key may have"), "{}", error.detail);
    drop(three);
    assert!(key.run(|| admission.admit(4, 0)).is_ok());
    let error = key.run(|| admission.admit(5, 0)).err().unwrap();
    assert_eq!(error.kind, ErrorKind::RequestTooLarge);
}

#[test]
fn a_body_is_not_let_in_when_its_tiles_could_not_be() {
    let admission = admission();
    let body = admission.admit_body(10).unwrap();
    let tiles = admission.admit(4, 10).unwrap();
    assert_eq!(admission.admit_body(1).err().unwrap().kind, ErrorKind::Overloaded);
    drop((body, tiles));
    assert!(admission.admit_body(100).is_ok());
}
