//! What Prometheus is shown.

use super::*;

#[tokio::test(start_paused = true)]
async fn metrics_show_the_accounts() {
    let letters = HintsConfig { max_dead_letters_size: 8 * KIB, ..config(16 * KIB, NEWEST) };
    let node = Node::new(1, letters);
    for i in 0..200 {
        let _stored = node.append(A, &format!("k{i:03}"), 100);
    }
    let (key, update) = mutation("dead", 100);
    for _ in 0..100 {
        let letter = NewHint { overflow: Some(LETTER), ..hint(&key, &update, 1_000_000_000) };
        let _kept = node.store.append(B, &letter, Duration::ZERO);
    }
    let letters = node.account(B);
    assert!(letters.dead_lettered > 0 && letters.refused > 0, "{letters:?}");
    let held_bytes = node.store.dead_letters().figures().bytes;
    tokio::time::advance(Duration::from_secs(7)).await;
    let mut registry = prometheus_client::registry::Registry::with_prefix("helenus");
    registry.register_collector(Box::new(HintMetrics::new(node.store.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let account = node.account(A);
    let labels = |outcome| format!("target=\"{A}\",outcome=\"{outcome}\"");
    for line in [
        format!("helenus_hints_total{{{}}} 200", labels("created")),
        format!("helenus_hints_total{{{}}} {}", labels("refused"), account.refused),
        format!("helenus_dead_letters_held{{target=\"{B}\"}} {}", letters.dead_lettered),
        format!("helenus_dead_letters_stored_bytes{{target=\"{B}\"}} {held_bytes}"),
        format!("helenus_dead_letters_oldest_age_seconds{{target=\"{B}\"}} 7"),
        format!("helenus_dead_letters_total{{target=\"{B}\",outcome=\"created\"}} 100"),
        format!(
            "helenus_hints_undelivered_total{{reason=\"dead_letters_full\"}} {}",
            letters.refused
        ),
        "helenus_dead_letters_max_bytes 8192".to_owned(),
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
    assert!(text.contains("helenus_dead_letters_fill_ratio 0.9"), "{text}");
}
