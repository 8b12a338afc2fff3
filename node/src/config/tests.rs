use super::*;

#[test]
fn a_near_word_is_found_and_a_far_one_is_not() {
    let keys = ["max_hint_window", "max_hints_size", "dc", "rack"];
    assert_eq!(did_you_mean("max_hint_size", keys), Some("max_hints_size"));
    assert_eq!(did_you_mean("RACK", keys), Some("rack"));
    assert_eq!(did_you_mean("dcs", keys), Some("dc"));
    assert_eq!(did_you_mean("memtable", keys), None);
    assert_eq!(did_you_mean("anything", []), None);
}

/// The problems that a file has, as they are printed.
fn problems(text: &str) -> String {
    Config::from_toml(text, "node.toml").unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::from_toml("", "node.toml"), Ok(Config::default()));
}

#[test]
fn the_example_file_is_the_defaults_and_names_every_key() {
    let example = Config::example();
    assert_eq!(Config::from_toml(&example, "example.toml"), Ok(Config::default()));
    for key in keys::EVERY {
        let lines = example
            .lines()
            .filter(|line| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name)));
        assert_eq!(lines.count(), 1, "{}", key.name);
    }
    // What is commented out there is right, too.
    let full: String = example
        .lines()
        .filter(|line| !line.contains("sync_group_window"))
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("metrics_address = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let metrics = Config::from_toml(&full, "example.toml").unwrap().metrics_address;
    assert_eq!(metrics, Some("127.0.0.1:9180".parse().unwrap()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "every key there is")]
fn a_configuration_with_nothing_left_at_its_default_survives_being_written() {
    let address = |text: &str| text.parse().unwrap();
    let config = Config {
        cluster_name: "say \"hello\"".to_owned(),
        listen_address: address("10.0.0.1:7001"),
        rpc_address: address("[2001:db8::1]:9161"),
        native_transport_address: Some(address("10.0.0.1:9142")),
        native_transport_tls: Some(TlsFiles {
            certificate: PathBuf::from("a \"b\".crt"),
            private_key: PathBuf::from("b.key"),
            client_ca: None,
        }),
        rpc_tls: Some(TlsFiles {
            certificate: PathBuf::from("c.crt"),
            private_key: PathBuf::from("d.key"),
            client_ca: Some(PathBuf::from("e.crt")),
        }),
        authenticator: Authenticator::Password,
        credentials_validity: Duration::ZERO,
        metrics_address: Some(address("0.0.0.0:9500")),
        data_directory: PathBuf::from("C:\\data\\helenus"),
        seeds: vec![address("10.0.0.2:7000"), address("10.0.0.3:7000")],
        dc: "east".to_owned(),
        rack: "a".to_owned(),
        num_tokens: 3,
        initial_token: vec![-5, 0, i64::MAX],
        write_request_timeout: Duration::from_millis(1500),
        counter_write_request_timeout: Duration::from_secs(7),
        read_request_timeout: Duration::from_secs(61),
        range_request_timeout: Duration::from_secs(3600),
        cas_contention_timeout: Duration::from_millis(1750),
        max_value_size: 1_000_001,
        tombstone_warn_threshold: 0,
        tombstone_failure_threshold: 77,
        batch_size_warn_threshold: 0,
        batch_size_fail_threshold: 7 * KIB,
        unlogged_batch_across_partitions_warn_threshold: 3,
        batchlog_replay_throttle: 0,
        phi_convict_threshold: 12.5,
        gossip_interval: Duration::from_millis(200),
        max_concurrent_requests: 17,
        max_request_data_in_flight: 18,
        internode_queue_bytes: 3 * MIB,
        fault_injection: true,
        storage: StorageConfig {
            engine: EngineKind::Sled,
            commitlog_sync: CommitlogSync::Group(Duration::from_millis(3)),
            commitlog_segment_size: MIB,
            commitlog_total_space: 5 * GIB,
            memtable_heap_space: 3 * KIB,
            compaction_throughput: 0,
            concurrent_compactors: 7,
            block_cache_size: 0,
            auto_snapshot: false,
        },
        hints: HintsConfig {
            enabled: false,
            max_hint_window: Duration::ZERO,
            max_hints_size: 500_000_000,
            max_hints_size_per_host: 7,
            max_dead_letters_size: 11,
            max_hints_file_size: 1,
            hinted_handoff_throttle: 3 * KIB,
            hinted_handoff_throttle_total: 5 * KIB,
            hints_receive_throttle: 7 * KIB,
            hints_flush_period: Duration::from_micros(1),
            overflow: Overflow::DropOldest,
            hint_throttle_max_wait: Duration::from_millis(70),
            paused: true,
        },
        repair: RepairConfig {
            stream_throughput_outbound: 0,
            concurrent_repair_sessions: 16,
            repair_session_space: 3 * KIB,
        },
    };
    let written = config.to_toml();
    assert_eq!(Config::from_toml(&written, "written.toml"), Ok(config), "{written}");
}

#[test]
fn units_mean_what_they_say() {
    let config = Config::from_toml(
        r#"
        max_value_size = "500MB"
        write_request_timeout = "1s 500ms"
        [hints]
        max_hints_size = "1.5 GiB"
        max_hint_window = "3h"
        hinted_handoff_throttle = "1024KiB/s"
        [storage]
        compaction_throughput = "0"
        "#,
        "node.toml",
    )
    .unwrap();
    assert_eq!(config.max_value_size, 500_000_000);
    assert_eq!(config.write_request_timeout, Duration::from_millis(1500));
    assert_eq!(config.hints.max_hints_size, 3 * GIB / 2);
    assert_eq!(config.hints.max_hint_window, Duration::from_secs(3 * 3600));
    assert_eq!(config.hints.hinted_handoff_throttle, MIB);
    assert_eq!(config.storage.compaction_throughput, 0);
}

#[test]
fn an_unknown_key_is_told_where_it_is_and_what_it_resembles() {
    assert_eq!(
        problems("dc = \"east\"\n  racks = \"a\"\n"),
        "node.toml:2:3: unknown key `racks` at the top of the file, before any [table]; did you mean `rack`?"
    );
    assert_eq!(
        problems("[hints]\nmax_hint_size = \"1GiB\""),
        "node.toml:2:1: unknown key `max_hint_size` in the table [hints]; did you mean `max_hints_size`?"
    );
    let far = problems("[storage]\ncolour = \"red\"");
    assert!(far.contains("known here are: engine, commitlog_sync,"), "{far}");
}

#[test]
fn a_key_in_the_wrong_table_is_sent_home() {
    assert!(problems("max_hint_window = \"3h\"").ends_with("it belongs in the table [hints]"));
    assert!(
        problems("[hints]\ndc = \"x\"")
            .ends_with("it belongs at the top of the file, before any [table]")
    );
    assert!(
        problems("[storage]\nmax_hint_windows = \"3h\"")
            .contains("did you mean `max_hint_window` in the table [hints]?")
    );
    assert!(problems("[storrage]").contains("did you mean `storage`?"));
    assert!(problems("storage = 5").contains("write [storage] on its own line"));
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let all = problems("num_tokens = 0\n[hints]\nmax_hints_size = \"1 parsec\"\nfoo = 1\n");
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert!(lines[0].starts_with("node.toml:1:14: `num_tokens`: must be a whole number from 1"));
    assert!(lines[1].starts_with("node.toml:3:18: `max_hints_size`: must be a size with its unit"));
    assert!(lines[2].starts_with("node.toml:4:1: unknown key `foo`"));
}

/// File, and a part of what is said about it.
#[test]
fn wrong_values_say_what_is_allowed() {
    for (text, said) in [
        ("num_tokens = \"16\"", "this is a text, and must be a whole number"),
        ("num_tokens = 99999999999999999999", "whole number from 1 to 1536"),
        (
            "write_request_timeout = 2000",
            "this is a whole number, and must be a time with its unit",
        ),
        ("write_request_timeout = \"2000\"", "must be a time with its unit"),
        ("write_request_timeout = \"0s\"", "must be more than 0"),
        ("gossip_interval = \"11 years\"", "longer than any node lives"),
        ("gossip_interval = \"1 fortnight\"", "must be a time with its unit"),
        ("max_value_size = \"16\"", "the unit is missing"),
        ("max_value_size = \"0\"", "must be more than 0"),
        ("max_value_size = \"99999999 EiB\"", "more than any disk holds"),
        ("max_value_size = \"16 MiB/s\"", "must be a size"),
        ("[hints]\nhinted_handoff_throttle = \"1MiB\"", "a size a second"),
        ("[hints]\noverflow = \"drop-older\"", "did you mean \"drop-oldest\"?"),
        ("[hints]\nhinted_handoff_enabled = 1", "must be true or false"),
        ("[storage]\nengine = \"rocks\"", "must be one of \"lsm\", \"sled\""),
        ("[storage]\nmemtable_heap_space = \"0\"", "must be more than 0"),
        ("listen_address = \"localhost\"", "an IP address and a port"),
        ("listen_address = \"0.0.0.0:7000\"", "one that they can dial"),
        ("seeds = \"127.0.0.1:7000\"", "must be a list of addresses"),
        ("seeds = [\"127.0.0.1\"]", "an IP address and a port"),
        ("seeds = [\"1.1.1.1:1\", \"1.1.1.1:1\"]", "is in the list twice"),
        ("initial_token = [-9223372036854775808]", "whole number from -9223372036854775807"),
        ("phi_convict_threshold = 0", "a number above 0"),
        ("phi_convict_threshold = inf", "a number above 0"),
        ("dc = \" \"", "must not be empty"),
        ("dc = \"a\"\ndc = \"b\"", "duplicate key"),
        ("dc = ", "node.toml:1:"),
    ] {
        let all = problems(text);
        assert!(all.contains(said), "{text} gave {all}");
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_where_they_stand() {
    assert_eq!(
        problems("dc = \"a\"\nrpc_address = \"127.0.0.1:7000\""),
        "node.toml:2:15: `rpc_address` is 127.0.0.1:7000, and so is `listen_address`"
    );
    assert_eq!(
        problems("num_tokens = 2\ninitial_token = [1, 2, 3]"),
        "node.toml:2:17: `initial_token` lists 3 tokens, and `num_tokens` says 2"
    );
    assert!(
        problems("[storage]\ncommitlog_sync = \"batch\"\ncommitlog_sync_period = \"1s\"")
            .starts_with("node.toml:3:25: `commitlog_sync_period` means something only with")
    );
    assert!(
        problems("[storage]\ncommitlog_total_space = \"1MiB\"").contains("less than one segment")
    );
    assert_eq!(
        problems("rpc_tls_private_key = \"a.key\""),
        "node.toml:1:23: `rpc_tls_private_key` means nothing without `rpc_tls_certificate`"
    );
    assert_eq!(
        problems("rpc_tls_client_ca = \"ca.crt\""),
        "node.toml:1:21: `rpc_tls_client_ca` means nothing without `rpc_tls_certificate`"
    );
    let unheard = "native_transport_tls_certificate = \"a.crt\"\nnative_transport_tls_private_key = \"a.key\"";
    assert_eq!(
        problems(unheard),
        "node.toml:1:36: `native_transport_tls_certificate` means nothing without `native_transport_address`"
    );
    // Free ports do not clash.
    let free = "listen_address = \"127.0.0.1:0\"\nrpc_address = \"127.0.0.1:0\"";
    assert!(Config::from_toml(free, "node.toml").is_ok());
}

#[test]
fn fixed_tokens_say_how_many_there_are() {
    let config = Config::from_toml("initial_token = [3, 1, 2]", "node.toml").unwrap();
    assert_eq!((config.num_tokens, config.initial_token), (3, vec![3, 1, 2]));
}

#[test]
fn columns_count_characters() {
    let all = problems("dc = \"\u{e9}\u{e9}\"  # \u{e9}\nrack = \"\u{e9}\u{e9}\" x");
    assert!(all.starts_with("node.toml:2:13: "), "{all}");
}

#[test]
fn settings_are_all_keys_by_names_of_their_own_with_bare_values() {
    let config = Config { rack: "a \"b\" \\ c".to_owned(), ..Config::default() };
    let settings: Vec<_> = config.settings().collect();
    let by_name: std::collections::BTreeMap<&str, Option<&str>> =
        settings.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    assert_eq!(by_name.len(), settings.len());
    assert_eq!(by_name["rack"], Some("a \"b\" \\ c"));
    assert_eq!(by_name["write_request_timeout"], Some("2s"));
    assert_eq!(by_name["num_tokens"], Some("16"));
    assert_eq!(by_name["metrics_address"], None);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        drop(Config::from_toml(&text, "any.toml"));
    }

    /// Near-misses: the example file with one piece replaced.
    #[test]
    fn no_damaged_example_panics(from in 0..4000_usize, len in 0..20_usize, noise in ".{0,6}") {
        let example = Config::example();
        let chars: Vec<char> = example.chars().collect();
        let from = from.min(chars.len());
        let rest = (from + len).min(chars.len());
        let damaged: String =
            chars[..from].iter().copied().chain(noise.chars()).chain(chars[rest..].iter().copied()).collect();
        if let Err(error) = Config::from_toml(&damaged, "damaged.toml") {
            proptest::prop_assert!(!error.problems.is_empty());
        }
    }
}
