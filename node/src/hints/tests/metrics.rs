//! What Prometheus is shown.

use super::*;

#[tokio::test(start_paused = true)]
async fn metrics_show_the_accounts() {
    let node = Node::new(1, config(16 * KIB, NEWEST));
    for i in 0..200 {
        let _stored = node.append(A, &format!("k{i:03}"), 100);
    }
    let mut registry = prometheus_client::registry::Registry::with_prefix("helenus");
    registry.register_collector(Box::new(HintMetrics::new(node.store.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let account = node.account(A);
    let labels = |outcome| format!("target=\"{A}\",outcome=\"{outcome}\"");
    for line in [
        format!("helenus_hints_total{{{}}} 200", labels("created")),
        format!("helenus_hints_total{{{}}} {}", labels("refused"), account.refused),
        format!("helenus_hints_pending{{target=\"{A}\"}} {}", account.pending),
        format!(
            "helenus_hints_undelivered_total{{reason=\"node_cap_reached\"}} {}",
            account.refused
        ),
        format!("helenus_hints_stored_bytes{{target=\"{A}\"}} {}", node.store.figures().bytes),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(text.contains("helenus_hints_fill_ratio 0.9"), "{text}");
}
