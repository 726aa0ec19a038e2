//! Requests that are larger than they may be.

use reqwest::Method;

use crate::{
    node::{TestNode, expect_problem, sample},
    still::at_rest,
};

on_both!(requests_that_are_too_large_are_refused_and_keep_nothing, async |node: &mut TestNode| {
    let paid = node.paid(&sample(30, 1000), "standard").await;

    // Above the node's limit of 32 KiB, below what breaks the connection.
    let padded = node.stream(&paid).header("x-padding", "a".repeat(40 << 10));
    let problem = expect_problem(padded.send().await.unwrap(), 431, "headers-too-large").await;
    assert_eq!(problem["limit"], 32 << 10);

    let long = serde_json::json!({ "name": "a".repeat(300 << 10), "contentHash": paid.hash });
    let answer = node.admin(Method::POST, "/v1/assets").json(&long).send().await.unwrap();
    let problem = expect_problem(answer, 413, "upload-too-large").await;
    assert_eq!(problem["limit"], 256 << 10);

    at_rest(node).await;
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 1000);
});
