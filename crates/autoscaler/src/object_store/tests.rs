use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Scrapes of a Ray 2.60 head, cut to the interesting series: 50 MB put, a task running, 250 MB put into a store of 200 MB, freed.
const HELD: &str = include_str!("../../testdata/metrics/ray-2.60-held.txt");
const RUNNING: &str = include_str!("../../testdata/metrics/ray-2.60-running.txt");
const SPILLED: &str = include_str!("../../testdata/metrics/ray-2.60-spilled.txt");
const FREED: &str = include_str!("../../testdata/metrics/ray-2.60-freed.txt");

fn holdings(object_store_bytes: u64, running_tasks: u64) -> Holdings {
    Holdings { object_store_bytes, running_tasks: Some(running_tasks) }
}

#[test]
fn primary_copies_are_counted_wherever_they_are_and_only_while_they_live() {
    assert_eq!(read_holdings(HELD), Ok(holdings(50_000_109, 0)));
    assert_eq!(read_holdings(RUNNING), Ok(holdings(50_000_109, 1)));
    assert_eq!(read_holdings(SPILLED), Ok(holdings(80_000_006 + 170_000_118, 0)));
    assert_eq!(read_holdings(FREED), Ok(holdings(103, 0)));
}

#[test]
fn without_the_series_of_primary_copies_all_that_is_in_the_store_counts() {
    for lost in [SPILL, "State=\"Pinned\""] {
        let old: String = SPILLED.lines().filter(|line| !line.contains(lost)).map(|line| format!("{line}\n")).collect();
        assert_eq!(read_holdings(&old), Ok(holdings(170_000_118 * 2, 0)));
    }
}

#[test]
fn what_does_not_say_how_much_it_holds_is_unknown_and_not_empty() {
    for text in ["", "<html>", "ray_scheduler_tasks{State=\"Executing\"} 0.0\n", "ray_spill_manager_objects_bytes 0\n"]
    {
        assert!(read_holdings(text).is_err(), "{text}");
    }
    for value in ["NaN", "-1", "+Inf"] {
        let broken = HELD.replace("5.0000109e+07", value);
        assert!(read_holdings(&broken).is_err(), "{value}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}", at in 0usize..4_000, other in "[ -~\n]{0,20}") {
        let _ = read_holdings(&text);
        let cut = HELD.char_indices().map(|(i, _)| i).take_while(|i| *i <= at).last().unwrap_or(0);
        let _ = read_holdings(&format!("{}{other}{}", &HELD[..cut], &HELD[cut..]));
    }
}

/// Serves one answer again and again; `None`: accepts and says nothing.
async fn serve(answer: Option<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    port
}

fn endpoint(id: &str, port: u16) -> Endpoint {
    Endpoint { node_id: id.into(), address: "127.0.0.1".into(), port }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn each_endpoint_is_asked_and_the_silent_ones_hold_nobody_up() {
    let (good, silent) = (serve(Some(ok(HELD))).await, serve(None).await);
    let mut endpoints: Vec<Endpoint> = (0..20).map(|i| endpoint(&format!("good{i:02}"), good)).collect();
    endpoints.extend((0..20).map(|i| endpoint(&format!("silent{i:02}"), silent)));
    let started = tokio::time::Instant::now();
    let answers = ask_all(endpoints).await;
    assert!(started.elapsed() < LIMIT * 2, "{:?}", started.elapsed());
    assert_eq!(answers.len(), 40);
    for (node, answer) in answers {
        match answer {
            Ok(read) => assert!(node.starts_with("good") && read == holdings(50_000_109, 0)),
            Err(error) => assert!(node.starts_with("silent") && matches!(error, HoldingsError::Timeout(_)), "{error}"),
        }
    }
}

#[tokio::test]
async fn whoever_answers_badly_is_unknown() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx".to_owned();
    let all = ask_all(vec![
        endpoint("refused", refused),
        endpoint("500", serve(Some("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into())).await),
        endpoint("empty", serve(Some(ok(""))).await),
        endpoint("not http", serve(Some("SSH-2.0-x\r\n".into())).await),
        endpoint("endless", serve(Some(endless)).await),
        Endpoint { address: "not an address/".into(), ..endpoint("address", 1) },
        Endpoint { address: "::1".into(), ..endpoint("v6", refused) },
    ])
    .await;
    let kinds: BTreeMap<&str, &str> = all
        .iter()
        .map(|(node, answer)| {
            let kind = match answer {
                Ok(_) => "ok",
                Err(HoldingsError::Timeout(_)) => "timeout",
                Err(HoldingsError::Transport(..)) => "transport",
                Err(HoldingsError::Garbage(..)) => "garbage",
            };
            (node.as_str(), kind)
        })
        .collect();
    let expected = [
        ("500", "garbage"),
        ("address", "transport"),
        ("empty", "garbage"),
        ("endless", "transport"),
        ("not http", "transport"),
        ("refused", "transport"),
        ("v6", "transport"),
    ];
    assert_eq!(kinds, expected.into());
}
