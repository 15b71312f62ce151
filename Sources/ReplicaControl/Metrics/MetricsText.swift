import ReplicaProto

/// What is known of one resource when the metrics are made.
package struct MetricsSample {
    package var resource: String
    /// Nil: no daemon answers.
    package var status: ResourceStatus?
    package var latencies: [(VolumeNumber, Latencies)] = []
    /// Names and numbers of the daemon's own work.
    package var counters: [(name: String, value: UInt64)] = []

    package init(resource: String) { self.resource = resource }
}

/// `metrics`: states, counters, resync progress and latencies in the text format of Prometheus
/// (https://prometheus.io/docs/instrumenting/exposition_formats). Sizes are in bytes, times in seconds.
package enum MetricsText {
    package static func text(_ samples: [MetricsSample]) -> String {
        var text = MetricsWriter()
        text.family("replica_up", .gauge, "Whether the daemon of a resource answers.")
        for sample in samples { text.sample([("resource", sample.resource)], sample.status == nil ? 0 : 1) }
        let statuses = samples.compactMap(\.status)
        text.family("replica_info", .gauge, "Always 1; node and version are labels.")
        for status in statuses {
            text.sample(
                [("resource", status.resource), ("node", status.node), ("version", status.productVersion)], 1)
        }
        let volumes = statuses.flatMap { status in
            status.volumes.map { volume in
                (
                    labels: [
                        ("resource", status.resource), ("volume", String(volume.volume.value)),
                        ("minor", String(volume.minor)),
                    ], status: volume
                )
            }
        }
        states(volumes, &text)
        counters(volumes, &text)
        progress(volumes, &text)
        durations(samples, &text)
        daemons(samples, &text)
        return text.text
    }

    private typealias Volumes = [(labels: [(String, String)], status: VolumeStatus)]

    // MARK: States

    private static func states(_ volumes: Volumes, _ text: inout MetricsWriter) {
        let roles = Role.allCases.map(\.name)
        let disks = DiskState.allCases.map(\.name)
        text.stateSet("replica_role", "Role of this node.", "role", roles, volumes.map { ($0.labels, $0.status.state.role.name) })
        text.stateSet(
            "replica_peer_role", "Role of the peer.", "role", roles, volumes.map { ($0.labels, $0.status.state.peerRole.name) })
        text.stateSet(
            "replica_connection_state", "State of the connection and of replication.", "state",
            ConnectionState.allCases.map(\.name), volumes.map { ($0.labels, $0.status.state.connection.name) })
        text.stateSet(
            "replica_disk_state", "State of this node's disk.", "state", disks,
            volumes.map { ($0.labels, $0.status.state.disk.name) })
        text.stateSet(
            "replica_peer_disk_state", "State of the peer's disk.", "state", disks,
            volumes.map { ($0.labels, $0.status.state.peerDisk.name) })
        text.family("replica_io_suspended", .gauge, "Whether I/O of applications is frozen, by reason.")
        for (labels, status) in volumes {
            let state = status.state
            for (reason, isSet) in [
                ("user", state.suspendedByUser), ("no-data", state.suspendedNoData), ("fencing", state.suspendedFencing),
            ] { text.sample(labels + [("reason", reason)], isSet ? 1 : 0) }
        }
        text.family("replica_resync_paused", .gauge, "Whether a resync has to wait, by reason.")
        for (labels, status) in volumes {
            let state = status.state
            for (reason, isSet) in [
                ("user", state.pausedByUser), ("peer", state.pausedByPeer), ("dependency", state.pausedByDependency),
            ] { text.sample(labels + [("reason", reason)], isSet ? 1 : 0) }
        }
    }

    // MARK: Counters

    private static func counters(_ volumes: Volumes, _ text: inout MetricsWriter) {
        let counted: [(String, MetricsWriter.Kind, String, (VolumeStatus) -> UInt64)] = [
            ("replica_size_bytes", .gauge, "Size of the device.", { $0.sectors * 512 }),
            ("replica_out_of_sync_bytes", .gauge, "What the peer has not, or may not have.", { $0.outOfSyncBits * 4096 }),
            ("replica_network_sent_bytes_total", .counter, "Data of blocks sent to the peer.", { $0.counters.networkSent * 512 }),
            (
                "replica_network_received_bytes_total", .counter, "Data of blocks received from the peer.",
                { $0.counters.networkReceived * 512 }
            ),
            ("replica_disk_written_bytes_total", .counter, "Written to the local disk.", { $0.counters.diskWritten * 512 }),
            ("replica_disk_read_bytes_total", .counter, "Read from the local disk.", { $0.counters.diskRead * 512 }),
            (
                "replica_activity_log_writes_total", .counter, "Transactions of the activity log.",
                { $0.counters.activityLogWrites }
            ),
            ("replica_bitmap_writes_total", .counter, "Pages of the bitmap written.", { $0.counters.bitmapWrites }),
            (
                "replica_local_pending", .gauge, "Requests that the local disk works on.",
                { UInt64(clamping: $0.counters.localPending) }
            ),
            (
                "replica_peer_pending", .gauge, "Requests that the peer owes an answer for.",
                { UInt64(clamping: $0.counters.peerPending) }
            ),
            (
                "replica_unacknowledged", .gauge, "Requests of the peer that are not answered.",
                { UInt64(clamping: $0.counters.unacknowledged) }
            ),
            (
                "replica_application_pending", .gauge, "Requests of applications that are not answered.",
                { UInt64(clamping: $0.counters.applicationPending) }
            ),
            ("replica_epochs", .gauge, "Write epochs that are open.", { UInt64(clamping: $0.counters.epochs) }),
        ]
        for (name, kind, help, value) in counted {
            text.family(name, kind, help)
            for (labels, status) in volumes { text.sample(labels, value(status)) }
        }
    }

    private static func progress(_ volumes: Volumes, _ text: inout MetricsWriter) {
        let running = volumes.compactMap { volume in volume.status.progress.map { (volume.labels, $0) } }
        text.family("replica_sync_total_bytes", .gauge, "What the running resync or verify has to look at; absent without one.")
        for (labels, progress) in running { text.sample(labels, progress.totalBits * 4096) }
        text.family("replica_sync_left_bytes", .gauge, "What of it is left.")
        for (labels, progress) in running { text.sample(labels, progress.bitsLeft * 4096) }
        text.family("replica_sync_speed_bytes_per_second", .gauge, "Its speed over the last seconds.")
        for (labels, progress) in running {
            text.sample(labels, progress.bitsSinceMark * 4096 / max(1, progress.secondsSinceMark))
        }
    }

    // MARK: Latencies

    private static func durations(_ samples: [MetricsSample], _ text: inout MetricsWriter) {
        text.family(
            "replica_request_duration_seconds", .histogram,
            "How long requests of applications took, by operation and stage; total is from arrival to answer.")
        for sample in samples {
            for (volume, latencies) in sample.latencies {
                for operation in Latencies.Operation.allCases {
                    for stage in Latencies.Stage.allCases {
                        let counts = latencies.counts(operation, stage)
                        guard counts.contains(where: { $0 > 0 }) else { continue }
                        text.histogram(
                            [
                                ("resource", sample.resource), ("volume", String(volume.value)),
                                ("operation", "\(operation)"), ("stage", stage.name),
                            ], counts, sumNanoseconds: latencies.sumNanoseconds(operation, stage))
                    }
                }
            }
        }
        text.family("replica_request_errors_total", .counter, "Requests of applications that were answered with an error.")
        for sample in samples where sample.status != nil {
            for (volume, latencies) in sample.latencies {
                for operation in Latencies.Operation.allCases {
                    text.sample(
                        [("resource", sample.resource), ("volume", String(volume.value)), ("operation", "\(operation)")],
                        latencies.errorCount(operation))
                }
            }
        }
    }

    /// The daemon's own work, of which only the names that it gives are known here.
    private static func daemons(_ samples: [MetricsSample], _ text: inout MetricsWriter) {
        text.family("replica_daemon_work_total", .counter, "Work of the daemon's loop, by kind.")
        for sample in samples {
            for (name, value) in sample.counters { text.sample([("resource", sample.resource), ("kind", name)], value) }
        }
    }
}

/// Writes families one after the other; one without a sample leaves no trace.
private struct MetricsWriter {
    enum Kind: String { case gauge, counter, histogram }

    private(set) var text = ""
    private var head = ""
    private var name = ""

    mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        head = "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
    }

    mutating func sample(_ labels: [(String, String)], _ value: UInt64) { line("", labels, String(value)) }

    /// One sample for each state that there is, 1 for the one that holds.
    mutating func stateSet(
        _ name: String, _ help: String, _ label: String, _ states: [String], _ holding: [([(String, String)], String)]
    ) {
        family(name, .gauge, help)
        for (labels, state) in holding {
            for candidate in states { sample(labels + [(label, candidate)], candidate == state ? 1 : 0) }
        }
    }

    mutating func histogram(_ labels: [(String, String)], _ counts: ArraySlice<UInt64>, sumNanoseconds: UInt64) {
        var total: UInt64 = 0
        for (bucket, count) in counts.enumerated() {
            total += count
            let isLast = bucket == Latencies.buckets - 1
            let end = isLast ? "+Inf" : Self.seconds(1 << UInt64(Latencies.firstPower + bucket))
            line("_bucket", labels + [("le", end)], String(total))
        }
        line("_sum", labels, Self.seconds(sumNanoseconds))
        line("_count", labels, String(total))
    }

    private mutating func line(_ suffix: String, _ labels: [(String, String)], _ value: String) {
        text += head
        head = ""
        let words = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        text += "\(name)\(suffix){\(words)} \(value)\n"
    }

    /// `0.000016384`: exact.
    private static func seconds(_ nanoseconds: UInt64) -> String {
        let fraction = String(nanoseconds % 1_000_000_000)
        return "\(nanoseconds / 1_000_000_000)." + String(repeating: "0", count: 9 - fraction.utf8.count) + fraction
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
