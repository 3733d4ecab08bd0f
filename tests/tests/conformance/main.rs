//! The API server in memory answers as a real one is recorded to have answered (`recorded.txt`; recorded by the case of the
//! same name among those with real parts). What differs on purpose is listed in `tests/src/conformance/differences.rs`.

use mobula_apiserver::{ApiServer, Kind, Settings};
use mobula_tests::conformance;

#[tokio::test]
async fn the_server_in_memory_answers_as_the_real_one() {
    let mut kinds = Kind::built_in();
    kinds.push(Kind::custom(conformance::GROUP, "v1", "Widget"));
    let server = ApiServer::new(Settings { kinds, ..Settings::default() });
    let ours = conformance::run(&server.client()).await.unwrap();
    let real = conformance::from_text(include_str!("recorded.txt")).unwrap();
    let found = conformance::compare(&real, &ours);
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n"));
}
