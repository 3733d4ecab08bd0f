//! The real API server answers as it is recorded to, and hence as the one in memory does.
//!
//! `MOBULA_TEST_RECORD=1` records anew.

use std::path::Path;

use mobula_tests::apiserver::{ApiServer, post};
use mobula_tests::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_api_server_answers_as_recorded() {
    let client = ApiServer::shared().await.unwrap().admin_client().await.unwrap();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    post(&client, definitions, &conformance::widget_definition()).await.unwrap();
    let widgets = format!("/apis/{}/v1/widgets", conformance::GROUP);
    let list = async || {
        let request = http::Request::get(widgets.as_str()).body(Vec::new())?;
        Ok(client.request_text(request).await.unwrap_or_default())
    };
    let limit = std::time::Duration::from_secs(60);
    mobula_tests::wait::until("Widgets served", limit, list, |text: &String| text.contains("\"items\"")).await.unwrap();

    let real = conformance::run(&client).await.unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/recorded.txt");
    if std::env::var_os("MOBULA_TEST_RECORD").is_some() {
        std::fs::write(&path, conformance::to_text(&real)).unwrap();
        return;
    }
    let recorded = conformance::from_text(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let found = conformance::compare(&real, &recorded);
    assert!(
        found.is_empty(),
        "the real server differs from what is recorded (here called ours):\n{}",
        found.join("\n")
    );
}
