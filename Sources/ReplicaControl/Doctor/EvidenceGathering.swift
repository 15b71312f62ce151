import Glibc
import ReplicaProto

/// Collects what can be known of a resource from this host. Changes nothing, and waits for nobody longer than two seconds.
struct EvidenceGathering {
    let environment: ToolEnvironment
    /// How `replctl` is to be called on this host.
    var program = "replctl"

    func evidence(_ resource: ResolvedResource) -> Evidence {
        var evidence = Evidence(resource: resource.name, node: environment.nodeName)
        evidence.program = program
        if let peer = resource.peer {
            evidence.peer = peer.names.first ?? peer.address.map { $0.address.host } ?? evidence.peer
            evidence.peerAddress = peer.address.map { text($0.address) } ?? ""
        }
        evidence.address = resource.local.address.map { text($0.address) } ?? ""
        var status = ask(resource.name, &evidence)
        // A connection that is just ending is StandAlone in a moment; what is to be typed then would have no effect now.
        for _ in 0..<10 where status?.volumes.contains(where: { $0.state.connection == .disconnecting }) ?? false {
            poll(nil, 0, 100)
            status = ask(resource.name, &evidence)
        }
        let isAlone = resource.volumes.count == 1
        let holders = DeviceHolders()
        for volume in resource.volumes {
            var found = VolumeEvidence(
                number: volume.number, minor: volume.minor, device: volume.device, disk: volume.disk,
                target: isAlone ? resource.name : "\(resource.name)/\(volume.number.value)")
            found.metaDisk = volume.metaDisk
            found.status = status?.volumes.first { $0.volume == volume.number }
            found.holders = openers(volume, status, holders)
            let isOurs =
                switch evidence.daemon {
                case .running: found.status?.state.disk == .diskless
                case .down, .dead: true
                case .silent, .unreachable: false
                }
            if isOurs {
                found.metadata = DiskLook(path: volume.metaDisk, index: volume.index, minor: volume.minor).look()
                if case .good? = found.metadata, volume.metaDisk != volume.disk, access(volume.disk, R_OK) != 0 {
                    found.metadata = .unreadable(ConfigFiles.errorText())
                    found.metaDisk = volume.disk
                }
                if evidence.daemon != .running { found.diskHolders = holders.find(volume.disk) }
            }
            evidence.volumes.append(found)
        }
        if isSearching(status), let local = resource.local.address?.address, let remote = resource.peer?.address?.address {
            evidence.port = PortProbe.ask(remote, from: local)
        }
        return evidence
    }

    /// For a resource that the configuration does not give this host.
    func evidence(of name: String, _ presence: Evidence.Presence) -> Evidence {
        var evidence = Evidence(resource: name, node: environment.nodeName)
        evidence.program = program
        _ = ask(name, &evidence)
        evidence.presence = presence
        return evidence
    }

    private func text(_ address: SocketAddress) -> String {
        address.family == "ipv6" ? "[\(address.host)]:\(address.port)" : "\(address.host):\(address.port)"
    }

    // MARK: The daemon

    private func ask(_ resource: String, _ evidence: inout Evidence) -> ResourceStatus? {
        let path = environment.controlSocket(of: resource)
        do {
            let answer = try withPatience { () throws(ControlClientError) in
                try ControlClient(path: path, timeoutSeconds: 2).ask("status-raw", timeoutSeconds: 2)
            }
            let status = try ResourceStatus(parsing: answer.text)
            evidence.daemon = .running
            evidence.lastDisconnect = status.lastDisconnect
            return status
        } catch let error as ControlClientError {
            switch error {
            case .notRunning:
                // Whoever ends in good order takes both files along.
                evidence.daemon = access(path, F_OK) == 0 ? .dead(process: process(of: resource) ?? 0) : .down
            case .timedOut:
                let process = process(of: resource)
                evidence.daemon = .silent(process: process, state: process.flatMap(state))
            case .broken(let reason): evidence.daemon = .unreachable(reason)
            }
        } catch let error as StatusLineError {
            evidence.daemon = .unreachable("unexpected status: \(error.message)")
        } catch { evidence.daemon = .unreachable("\(error)") }
        return nil
    }

    private func process(of resource: String) -> Int32? {
        let bytes = ConfigFiles.read("\(environment.runDirectory)/\(resource).pid") ?? []
        return Int32(String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)).flatMap { $0 > 0 ? $0 : nil }
    }

    /// The kernel's letter for what a process does.
    private func state(of process: Int32) -> Character? {
        let text = String(decoding: ConfigFiles.read("/proc/\(process)/stat") ?? [], as: UTF8.self)
        guard let bracket = text.lastIndex(of: ")") else { return nil }
        return text[text.index(after: bracket)...].first { $0 != " " }
    }

    // MARK: The device

    private func openers(_ volume: ResolvedVolume, _ status: ResourceStatus?, _ holders: DeviceHolders) -> [Holder] {
        let clients = (status?.clients ?? []).filter { $0.volume == volume.number }.map {
            Holder.process($0.process, name: DeviceHolders.processName($0.process))
        }
        // A pretended node's device is its real neighbour's.
        guard volume.device.hasPrefix("/dev/"), getenv("REPLICA_NODE") == nil || getenv("REPLICA_KERNEL_DEVICES") != nil
        else { return clients }
        return clients + holders.find(volume.device, except: process(of: status?.resource ?? ""))
    }

    // MARK: The peer

    /// No connection, and none being made: only then is there a port to knock at, and nobody whom that disturbs.
    private func isSearching(_ status: ResourceStatus?) -> Bool {
        guard let status, !status.volumes.isEmpty else { return false }
        return status.volumes.allSatisfy { volume in
            switch volume.state.connection {
            case .standAlone, .wfConnection, .unconnected: true
            case .disconnecting, .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown, .wfReportParams,
                .connected,
                .startingSyncS, .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID, .syncSource, .syncTarget, .verifyS,
                .verifyT, .pausedSyncS, .pausedSyncT, .ahead, .behind:
                false
            }
        }
    }
}
