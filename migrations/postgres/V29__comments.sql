-- What an operator reads in psql (\d+): each table, and each column with what its values mean.

COMMENT ON TABLE api_keys IS 'Keys by which producers and admins call the API.';
COMMENT ON COLUMN api_keys.key_id IS 'Names the key; it is no secret.';
COMMENT ON COLUMN api_keys.producer_id IS 'Whose key it is.';
COMMENT ON COLUMN api_keys.name IS 'What an administrator calls it, to know it again.';
COMMENT ON COLUMN api_keys.role IS 'admin or producer.';
COMMENT ON COLUMN api_keys.secret_hash IS 'SHA-256 of the secret. The secret itself is kept nowhere.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.revoked_at IS 'From when on it is refused; null while it counts.';

COMMENT ON TABLE asset_search IS 'Assets as the search finds them: one row for each asset, kept by triggers.';
COMMENT ON COLUMN asset_search.number IS 'The order in which assets came, for pages of results.';
COMMENT ON COLUMN asset_search.version_id IS 'The asset.';
COMMENT ON COLUMN asset_search.producer_id IS 'Whose asset it is, for filters.';
COMMENT ON COLUMN asset_search.dataset_id IS 'The dataset that it belongs to, for filters.';
COMMENT ON COLUMN asset_search.media_type IS 'For filters.';
COMMENT ON COLUMN asset_search.satoshis IS 'The price, for filters and order.';
COMMENT ON COLUMN asset_search.document IS 'Its words and tags.';

COMMENT ON TABLE asset_search_backfill IS 'How far the assets that were there before the search have been entered into it. One row.';
COMMENT ON COLUMN asset_search_backfill.one IS 'Keeps it one row.';
COMMENT ON COLUMN asset_search_backfill.below IS
    'Assets before this one are still to be entered; the row goes when none is left.';
COMMENT ON COLUMN asset_search_backfill.number IS 'The number of the next one.';

COMMENT ON TABLE asset_words IS 'The words of names and descriptions, by which a search for parts of words begins.';
COMMENT ON COLUMN asset_words.word IS 'A word.';
COMMENT ON COLUMN asset_words.nth IS 'The order in which words came in: common ones come early.';

COMMENT ON TABLE assets IS 'What is for sale: a name and facts for a content. Never changed; a change is another asset.';
COMMENT ON COLUMN assets.version_id IS 'Names the asset.';
COMMENT ON COLUMN assets.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN assets.name IS 'For people.';
COMMENT ON COLUMN assets.description IS 'For people.';
COMMENT ON COLUMN assets.media_type IS 'What the content is.';
COMMENT ON COLUMN assets.dataset_id IS 'The dataset that it belongs to, if any.';
COMMENT ON COLUMN assets.policy_meta IS 'Facts that policies of governance ask for.';
COMMENT ON COLUMN assets.producer_id IS 'Who published it.';
COMMENT ON COLUMN assets.created_at IS 'When it was published.';

COMMENT ON TABLE change_log IS 'Changes that instances may have cached the state before: each instance polls it.';
COMMENT ON COLUMN change_log.change_id IS
    'Names the change; drawn before its transaction commits, so not in the order of commits.';
COMMENT ON COLUMN change_log.txid IS 'The transaction that made it: instances read by this.';
COMMENT ON COLUMN change_log.tag IS 'What has changed, such as receipt:ID.';
COMMENT ON COLUMN change_log.changed_at IS 'When.';

COMMENT ON TABLE content_media_types IS 'What each producer says that a content is, for what it sells of it.';
COMMENT ON COLUMN content_media_types.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN content_media_types.producer_id IS 'Who says it.';
COMMENT ON COLUMN content_media_types.media_type IS 'What it is.';

COMMENT ON TABLE content_uses IS 'On which day a content was last used, for moving it between tiers.';
COMMENT ON COLUMN content_uses.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN content_uses.used_on IS 'The last day, in UTC.';

COMMENT ON COLUMN installation.is_only IS 'Keeps it one row.';
COMMENT ON COLUMN installation_stores.tier IS 'Which tier: hot, warm or cold.';
COMMENT ON COLUMN installation_stores.noted_at IS 'When the store was marked.';

COMMENT ON TABLE ledger_nodes IS 'Epochs of instances: what leases belong to. An instance has one for each start.';
COMMENT ON COLUMN ledger_nodes.node_id IS 'The instance, by its data folder.';
COMMENT ON COLUMN ledger_nodes.epoch IS 'Grows with each start.';
COMMENT ON COLUMN ledger_nodes.alive_until IS 'Until when its leases count, by its last heartbeat.';
COMMENT ON COLUMN ledger_nodes.fenced IS
    'Whether it was taken for dead: it gets no more leases, and those it has are taken back.';
COMMENT ON COLUMN ledger_nodes.watermark IS 'The last batch of usage that was settled.';

COMMENT ON TABLE lineage_edges IS 'Who reads and writes what, as events have told.';
COMMENT ON COLUMN lineage_edges.source_key IS 'The node that the edge comes from: a dataset that is read, or a job that writes.';
COMMENT ON COLUMN lineage_edges.target_key IS 'The node that it leads to.';
COMMENT ON COLUMN lineage_edges.first_seen IS 'Time of the first event that told of it.';
COMMENT ON COLUMN lineage_edges.last_seen IS 'Time of the last one.';
COMMENT ON COLUMN lineage_edges.last_day IS 'The day of that, by which it is removed.';
COMMENT ON COLUMN lineage_edges.events IS 'How many events told of it.';

COMMENT ON TABLE lineage_emission IS 'Whether changes are told as lineage events. One row, written by the instance that started last.';
COMMENT ON COLUMN lineage_emission.only_row IS 'Keeps it one row.';
COMMENT ON COLUMN lineage_emission.enabled IS 'lineage.emit.';

COMMENT ON TABLE lineage_event_counts IS 'Events by day and namespace, for the bound of each namespace.';
COMMENT ON COLUMN lineage_event_counts.day IS 'In UTC.';
COMMENT ON COLUMN lineage_event_counts.namespace_key IS 'The namespace.';
COMMENT ON COLUMN lineage_event_counts.events IS 'How many are kept.';

COMMENT ON TABLE lineage_events IS 'OpenLineage events as they came, by UTC day: each day a partition.';
COMMENT ON COLUMN lineage_events.event_time IS 'As the event says.';
COMMENT ON COLUMN lineage_events.event_hash IS 'SHA-256 of its canonical form: an event that comes twice is kept once.';
COMMENT ON COLUMN lineage_events.namespace_key IS 'The namespace of its job or dataset.';
COMMENT ON COLUMN lineage_events.kind IS 'run, job or dataset.';
COMMENT ON COLUMN lineage_events.state IS 'Its eventType, if it is of a run.';
COMMENT ON COLUMN lineage_events.run_id IS 'Its run, if it is of one.';
COMMENT ON COLUMN lineage_events.received_at IS 'When it came.';
COMMENT ON COLUMN lineage_events.body IS 'Its text, to the byte.';

COMMENT ON TABLE lineage_leases IS 'Which instance does what only one may do at a time for lineage.';
COMMENT ON COLUMN lineage_leases.task IS 'What is done.';
COMMENT ON COLUMN lineage_leases.holder IS 'The instance that does it.';
COMMENT ON COLUMN lineage_leases.token IS 'Grows with each holder, so that a late one is noticed.';
COMMENT ON COLUMN lineage_leases.held_until IS 'After this another one may.';

COMMENT ON TABLE lineage_namespaces IS 'Namespaces of jobs and datasets, and how far each is pruned.';
COMMENT ON COLUMN lineage_namespaces.namespace_key IS 'Names it, from its text.';
COMMENT ON COLUMN lineage_namespaces.namespace IS 'Its text.';
COMMENT ON COLUMN lineage_namespaces.pruned_until IS 'Events up to this time have been removed.';
COMMENT ON COLUMN lineage_namespaces.pruned_hash IS 'Of events at that time, up to this hash.';

COMMENT ON TABLE lineage_nodes IS 'Jobs and datasets that events have named.';
COMMENT ON COLUMN lineage_nodes.node_key IS 'Names it, from kind, namespace and name.';
COMMENT ON COLUMN lineage_nodes.kind IS 'job or dataset.';
COMMENT ON COLUMN lineage_nodes.namespace IS 'As events say it.';
COMMENT ON COLUMN lineage_nodes.name IS 'As events say it.';
COMMENT ON COLUMN lineage_nodes.words IS 'Words of its name, for the search.';
COMMENT ON COLUMN lineage_nodes.facets IS
    'The newest facets by name: is, the facet; at, the time of its event in microseconds; by, the beginning of the hash of its event.';
COMMENT ON COLUMN lineage_nodes.first_seen IS 'Time of the first event that named it.';
COMMENT ON COLUMN lineage_nodes.last_seen IS 'Time of the last one.';
COMMENT ON COLUMN lineage_nodes.last_day IS 'The day of that, by which it is removed.';
COMMENT ON COLUMN lineage_nodes.events IS 'How many events named it.';

COMMENT ON TABLE lineage_outbox IS 'What is to be told as lineage events, written in the transaction that it tells of.';
COMMENT ON COLUMN lineage_outbox.outbox_id IS 'Names the entry.';
COMMENT ON COLUMN lineage_outbox.kind IS 'What happened.';
COMMENT ON COLUMN lineage_outbox.happened_at IS 'When.';
COMMENT ON COLUMN lineage_outbox.detail IS 'What there is to tell.';
COMMENT ON COLUMN lineage_outbox.claimed_until IS 'Until then an instance is telling it.';

COMMENT ON TABLE lineage_runs IS 'Runs of jobs: what their events say together.';
COMMENT ON COLUMN lineage_runs.run_id IS 'Names the run.';
COMMENT ON COLUMN lineage_runs.job_key IS 'The job that it is a run of.';
COMMENT ON COLUMN lineage_runs.state IS 'The last state; an end stands against what comes later.';
COMMENT ON COLUMN lineage_runs.state_at IS 'Since when.';
COMMENT ON COLUMN lineage_runs.started_at IS 'Time of its START.';
COMMENT ON COLUMN lineage_runs.ended_at IS 'Time of its end.';
COMMENT ON COLUMN lineage_runs.first_seen IS 'Time of its first event.';
COMMENT ON COLUMN lineage_runs.last_seen IS 'Time of its last one.';
COMMENT ON COLUMN lineage_runs.last_day IS 'The day of that, by which it is removed.';
COMMENT ON COLUMN lineage_runs.events IS 'How many there were.';

COMMENT ON TABLE overlay_receipts IS 'Receipts: the right to stream a content.';
COMMENT ON COLUMN overlay_receipts.receipt_id IS 'Names the receipt; who has it may stream.';
COMMENT ON COLUMN overlay_receipts.version_id IS 'The asset that was bought.';
COMMENT ON COLUMN overlay_receipts.content_hash IS 'SHA-256 of its content.';
COMMENT ON COLUMN overlay_receipts.quota_tier IS 'The quota policy that limits it.';
COMMENT ON COLUMN overlay_receipts.status IS 'pending, confirmed, settled, refunded or expired: docs/api.md has the transitions.';
COMMENT ON COLUMN overlay_receipts.expires_at IS 'When it ends by itself; null: never.';
COMMENT ON COLUMN overlay_receipts.total_satoshis IS 'What was paid.';
COMMENT ON COLUMN overlay_receipts.epoch IS 'Grows with each change, so that instances tell old from new.';
COMMENT ON COLUMN overlay_receipts.created_at IS 'When it was made.';
COMMENT ON COLUMN overlay_receipts.updated_at IS 'When it was last changed.';

COMMENT ON TABLE overlay_storage_index IS 'Contents that are stored, or on their way in.';
COMMENT ON COLUMN overlay_storage_index.content_hash IS 'SHA-256 of the bytes.';
COMMENT ON COLUMN overlay_storage_index.size_bytes IS 'Their number.';
COMMENT ON COLUMN overlay_storage_index.media_type IS 'What they were uploaded as.';
COMMENT ON COLUMN overlay_storage_index.state IS 'announced while it is not known to be whole, then stored.';
COMMENT ON COLUMN overlay_storage_index.tier IS 'Where the newest copy is: hot, warm or cold.';
COMMENT ON COLUMN overlay_storage_index.producer_id IS 'Who uploaded it first.';
COMMENT ON COLUMN overlay_storage_index.announced_at IS 'When it was announced; what is never stored is withdrawn.';
COMMENT ON COLUMN overlay_storage_index.stored_at IS 'When it was stored.';

COMMENT ON TABLE policies IS 'Policies of governance in their current version.';
COMMENT ON COLUMN policies.policy_id IS 'Names the policy.';
COMMENT ON COLUMN policies.version IS 'Its current version.';
COMMENT ON COLUMN policies.document IS 'Its rules.';
COMMENT ON COLUMN policies.created_at IS 'When this version was put.';

COMMENT ON TABLE policy_runs IS 'Judgements of policies over assets, with their reasons.';
COMMENT ON COLUMN policy_runs.run_id IS 'Names the run.';
COMMENT ON COLUMN policy_runs.policy_id IS 'By which policy.';
COMMENT ON COLUMN policy_runs.policy_version IS 'By which version of it.';
COMMENT ON COLUMN policy_runs.version_id IS 'Over which asset; null where it is not published.';
COMMENT ON COLUMN policy_runs.occasion IS 'evaluate, publish or receipt.';
COMMENT ON COLUMN policy_runs.decision IS 'allow, warn or block.';
COMMENT ON COLUMN policy_runs.evaluated_at IS 'When.';
COMMENT ON COLUMN policy_runs.verdict IS 'Each rule with its reason and evidence.';

COMMENT ON TABLE policy_versions IS 'All versions of policies.';
COMMENT ON COLUMN policy_versions.policy_id IS 'The policy.';
COMMENT ON COLUMN policy_versions.version IS 'Which version.';
COMMENT ON COLUMN policy_versions.document IS 'Its rules.';
COMMENT ON COLUMN policy_versions.created_at IS 'When it was put.';

COMMENT ON TABLE prices IS 'What assets cost now.';
COMMENT ON COLUMN prices.version_id IS 'The asset.';
COMMENT ON COLUMN prices.satoshis IS 'Its price.';
COMMENT ON COLUMN prices.updated_at IS 'Since when.';

COMMENT ON TABLE producer_identities IS 'Identity keys with which producers sign requests.';
COMMENT ON COLUMN producer_identities.identity_key IS 'The public key, compressed.';
COMMENT ON COLUMN producer_identities.producer_id IS 'Whom it speaks for.';
COMMENT ON COLUMN producer_identities.bound_at IS 'Since when.';

COMMENT ON TABLE producers IS 'Who puts content in.';
COMMENT ON COLUMN producers.producer_id IS 'Names the producer.';
COMMENT ON COLUMN producers.name IS 'For people.';
COMMENT ON COLUMN producers.created_at IS 'When it was made.';

COMMENT ON TABLE quota_leases IS 'Credit that instances hold: taken out of windows, to be spent within an hour.';
COMMENT ON COLUMN quota_leases.receipt_id IS 'Of which receipt.';
COMMENT ON COLUMN quota_leases.node_id IS 'Which instance holds it.';
COMMENT ON COLUMN quota_leases.epoch IS 'Under which epoch of it.';
COMMENT ON COLUMN quota_leases.hour_start IS 'In which hour it may be spent, and so in which day and month.';
COMMENT ON COLUMN quota_leases.bytes IS 'What is left of it. Of a lost one, what was charged and no row of usage explains yet.';
COMMENT ON COLUMN quota_leases.requests IS 'Likewise.';
COMMENT ON COLUMN quota_leases.state IS 'live, or lost: taken back from a dead instance and charged.';
COMMENT ON COLUMN quota_leases.lost_usage_id IS 'The row of usage that it was charged as.';

COMMENT ON TABLE quota_policies IS 'Quota policies, or tiers: what receipts may use. A limit that is null does not limit.';
COMMENT ON COLUMN quota_policies.policy_name IS 'Names the policy, as receipts do in quota_tier.';
COMMENT ON COLUMN quota_policies.description IS 'For people.';
COMMENT ON COLUMN quota_policies.bytes_per_hour IS 'In each UTC hour.';
COMMENT ON COLUMN quota_policies.bytes_per_day IS 'In each UTC day.';
COMMENT ON COLUMN quota_policies.bytes_per_month IS 'In each UTC month.';
COMMENT ON COLUMN quota_policies.requests_per_hour IS 'In each UTC hour.';
COMMENT ON COLUMN quota_policies.requests_per_day IS 'In each UTC day.';
COMMENT ON COLUMN quota_policies.requests_per_month IS 'In each UTC month.';
COMMENT ON COLUMN quota_policies.max_concurrent_streams IS 'At a time, on all instances.';
COMMENT ON COLUMN quota_policies.max_bandwidth_mbps IS 'Megabits a second, of all streams of a receipt on an instance.';
COMMENT ON COLUMN quota_policies.burst_bytes_allowance IS 'Bytes that may go out faster than that.';
COMMENT ON COLUMN quota_policies.burst_duration_minutes IS 'In which time the allowance comes back.';
COMMENT ON COLUMN quota_policies.max_file_size_bytes IS 'The largest content that may be streamed.';
COMMENT ON COLUMN quota_policies.allowed_content_types IS 'Media types that may be streamed, as video/*; null: all.';
COMMENT ON COLUMN quota_policies.updated_at IS 'When it was last changed.';

COMMENT ON TABLE quota_usage_windows IS 'What a receipt has used in an hour, a day and a month: always the sum of its rows of usage (penstock audit).';
COMMENT ON COLUMN quota_usage_windows.receipt_id IS 'The receipt.';
COMMENT ON COLUMN quota_usage_windows.window_type IS 'hour, day or month.';
COMMENT ON COLUMN quota_usage_windows.window_start IS 'Its first moment, in UTC.';
COMMENT ON COLUMN quota_usage_windows.window_end IS 'The first moment after it.';
COMMENT ON COLUMN quota_usage_windows.bytes_used IS 'What was charged.';
COMMENT ON COLUMN quota_usage_windows.bytes_reserved IS 'What instances hold as leases.';
COMMENT ON COLUMN quota_usage_windows.requests_used IS 'What was charged.';
COMMENT ON COLUMN quota_usage_windows.requests_reserved IS 'What instances hold as leases.';

COMMENT ON TABLE storage_moves IS 'Contents that are on their way to another tier.';
COMMENT ON COLUMN storage_moves.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN storage_moves.to_tier IS 'Where it goes.';
COMMENT ON COLUMN storage_moves.state IS
    'copying: readers use the old copy; leaving: they use the new one, and the old ones are about to go.';
COMMENT ON COLUMN storage_moves.since IS 'Since when.';

COMMENT ON TABLE storage_quarantine IS 'Contents that readers do not get, for no good copy of them is known.';
COMMENT ON COLUMN storage_quarantine.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN storage_quarantine.since IS 'Since when.';

COMMENT ON TABLE storage_tasks IS 'Which instance does what only one may do at a time for the storage, and how far it is.';
COMMENT ON COLUMN storage_tasks.task IS 'walk, lifecycle or moves.';
COMMENT ON COLUMN storage_tasks.node_id IS 'The instance that does it.';
COMMENT ON COLUMN storage_tasks.held_until IS 'After this another one may.';
COMMENT ON COLUMN storage_tasks.after_hash IS 'How far it is: contents up to this hash are done.';
COMMENT ON COLUMN storage_tasks.lap_began_at IS 'When this round began.';
COMMENT ON COLUMN storage_tasks.whole_lap_began_at IS 'When the last round that was finished had begun.';

COMMENT ON TABLE storage_verifications IS 'Looks at stored copies, and what was found.';
COMMENT ON COLUMN storage_verifications.verification_id IS 'Names the look.';
COMMENT ON COLUMN storage_verifications.content_hash IS 'SHA-256 that the content should have.';
COMMENT ON COLUMN storage_verifications.verification_type IS 'Why it was looked at: on_demand, walk, read, move or repair.';
COMMENT ON COLUMN storage_verifications.tier IS 'Which copy.';
COMMENT ON COLUMN storage_verifications.finding IS 'intact, corrupt, wrong_size or missing.';
COMMENT ON COLUMN storage_verifications.expected_bytes IS 'How long it should be.';
COMMENT ON COLUMN storage_verifications.found_bytes IS 'How long it is.';
COMMENT ON COLUMN storage_verifications.node_id IS 'The instance that looked.';
COMMENT ON COLUMN storage_verifications.verified_at IS 'When.';

COMMENT ON TABLE streaming_usage IS 'Rows of usage: what was delivered and charged, by month of its start, each month a partition.';
COMMENT ON COLUMN streaming_usage.usage_id IS 'Names the row.';
COMMENT ON COLUMN streaming_usage.receipt_id IS 'The receipt that is charged.';
COMMENT ON COLUMN streaming_usage.content_hash IS 'SHA-256 of the content.';
COMMENT ON COLUMN streaming_usage.session_id IS 'The session, if it belongs to one.';
COMMENT ON COLUMN streaming_usage.node_id IS 'The instance that delivered.';
COMMENT ON COLUMN streaming_usage.started_at IS 'When it began: says which windows are charged.';
COMMENT ON COLUMN streaming_usage.finished_at IS 'When it ended.';
COMMENT ON COLUMN streaming_usage.bytes_sent IS 'What is charged.';
COMMENT ON COLUMN streaming_usage.requests IS 'What is charged.';
COMMENT ON COLUMN streaming_usage.outcome IS
    'completed, aborted, revoked, failed, delegated (a URL was given to another server) or lost_lease (the credit of an instance that died, which no stream explains).';
COMMENT ON COLUMN streaming_usage.lease_epoch IS 'The epoch whose lease paid for it; null where no lease was needed.';
