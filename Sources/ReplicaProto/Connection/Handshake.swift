/// From two streams to an agreed connection: features, parameters, sizes, identifiers, states (`wire.md` section 4).
extension Resource {
    /// What we offer. Zeroes have no digest on the wire, so with an integrity algorithm they are not offered (7.9); no
    /// release that ends below version 95 knew of features.
    var offeredFeatures: FeatureFlags {
        if versions.upperBound < 95 { return [] }
        return link.options.dataIntegrityAlgorithm.isEmpty ? .all : FeatureFlags.all.subtracting(.writeZeroes)
    }

    mutating func featuresReceived(_ packet: ConnectionFeatures) {
        guard link.phase == .features else { return connectionFailed(.protocolError) }
        let peerMaximum = packet.maximumVersion == 0 ? packet.minimumVersion : packet.maximumVersion
        guard peerMaximum >= versions.lowerBound, packet.minimumVersion <= versions.upperBound else {
            log(
                .error, nil,
                "incompatible DRBD dialects: I support \(versions.lowerBound)-\(versions.upperBound), peer supports \(packet.minimumVersion)-\(peerMaximum)"
            )
            return connectionFailed(.disconnecting, because: .incompatibleVersions)
        }
        link.version = min(versions.upperBound, peerMaximum)
        link.features = offeredFeatures.intersection(packet.flags)
        log(.info, nil, "Handshake successful: Agreed network protocol version \(link.version)")
        for v in volumes.indices { exportMayHaveChanged(v) }
        link.integrity = nil
        link.peerIntegrity = nil
        tellWireFormat()
        if link.options.cramHMACAlgorithm.isEmpty {
            parametersPhase()
        } else {
            link.phase = .authentication
            link.ownChallenge = []
            link.peerChallenge = nil
            link.sentResponse = false
            link.expectedResponse = nil
            link.peerResponse = nil
            emit(.makeChallenge)
        }
    }

    /// What the two streams look like from here on.
    mutating func tellWireFormat() {
        var format = WireFormat(version: link.version, features: link.features, peerIntegrity: link.peerIntegrity)
        format.integrity = link.integrity
        format.verify = DigestAlgorithm(link.options.verifyAlgorithm)
        format.checksum = DigestAlgorithm(link.options.checksumAlgorithm)
        emit(.setWireFormat(format))
    }

    // MARK: CRAM-HMAC (`wire.md` 4.3)

    mutating func challengeMade(_ bytes: [UInt8]) {
        guard link.phase == .authentication, link.ownChallenge.isEmpty else { return }
        guard bytes.count == 64 else { return restartHandshake(afterPause: true) }
        link.ownChallenge = bytes
        send(.data, nil, .authChallenge(bytes))
        emit(
            .computeHMAC(
                .expectation, algorithm: link.options.cramHMACAlgorithm, key: Array(link.options.sharedSecret.utf8),
                message: bytes))
        answerChallenge()
    }

    mutating func challengeReceived(_ bytes: [UInt8]) {
        guard link.phase == .authentication, link.peerChallenge == nil else {
            // A node that expects no challenge takes it for an error that a second try may cure.
            return link.phase == .parameters ? connectionFailed(.protocolError) : restartHandshake(afterPause: true)
        }
        link.peerChallenge = bytes
        answerChallenge()
    }

    /// The peer's challenge may be here before our own is made: both come with its features in one receive. Ours goes
    /// first, so that what we expect is known before the peer can go on.
    private mutating func answerChallenge() {
        guard let bytes = link.peerChallenge, !link.ownChallenge.isEmpty else { return }
        guard bytes.count >= 64, bytes.count <= 128, !constantTimeEqual(Array(bytes[0..<64]), link.ownChallenge) else {
            return authenticationRejected("peer's challenge is not acceptable")
        }
        emit(
            .computeHMAC(
                .response, algorithm: link.options.cramHMACAlgorithm, key: Array(link.options.sharedSecret.utf8),
                message: bytes))
    }

    mutating func hmacComputed(_ purpose: HMACPurpose, _ digest: [UInt8]?) {
        guard link.phase == .authentication else { return }
        guard let digest else { return authenticationRejected("\(link.options.cramHMACAlgorithm) is not available") }
        switch purpose {
        case .response: send(.data, nil, .authResponse(digest))
        case .expectation: link.expectedResponse = digest
        }
        if purpose == .response { link.sentResponse = true }
        finishAuthentication()
    }

    mutating func responseReceived(_ bytes: [UInt8]) {
        guard link.phase == .authentication else { return connectionFailed(.protocolError) }
        link.peerResponse = bytes
        finishAuthentication()
    }

    private mutating func finishAuthentication() {
        guard let expected = link.expectedResponse, let response = link.peerResponse, link.sentResponse else { return }
        guard response.count == expected.count else { return restartHandshake(afterPause: true) }
        guard constantTimeEqual(response, expected) else { return authenticationRejected("peer presented the wrong response") }
        log(.info, nil, "Peer authenticated using \(expected.count) bytes HMAC")
        parametersPhase()
    }

    private mutating func authenticationRejected(_ reason: String) {
        log(.error, nil, "Authentication of peer failed: \(reason)")
        connectionFailed(.disconnecting, because: .authentication)
    }

    private func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        var difference: UInt8 = 0
        for index in left.indices { difference |= left[index] ^ right[index] }
        return difference == 0
    }

    // MARK: Our side of the parameters

    private mutating func parametersPhase() {
        timers.cancel(.handshake)
        if link.configuration?.tentative ?? false, link.version < 92 {
            log(.error, nil, "--dry-run is not supported by peer")
            return connectionFailed(.disconnecting, because: .peerTooOld)
        }
        link.phase = .parameters
        link.receivedProtocol = false
        link.peerWantsDryRun = false
        link.establishedAt = now
        link.lastMetaReceived = now
        link.lastDataReceived = now
        link.pingsSent = 0
        link.pingsAnswered = 0
        link.isPingOverdue = false
        link.stallsLeft = link.options.koCount
        timers.set(.ping, now + .seconds(link.options.pingInterval))
        sendProtocol(update: false)
        for v in volumes.indices { sendVolumeParameters(v) }
        for v in volumes.indices { setState(v) { $0.connection = .wfReportParams } }
        link.discardMyData = false
    }

    mutating func sendProtocol(update: Bool) {
        let options = link.options
        var flags: UInt32 = 0
        if link.discardMyData { flags |= 1 }
        if link.configuration?.tentative ?? false { flags |= 2 }
        let parameters = ProtocolParameters(
            replicationProtocol: UInt32(options.replicationProtocol.rawValue),
            afterSplitBrain0Primaries: options.afterSplitBrain0Primaries.rawValue,
            afterSplitBrain1Primary: options.afterSplitBrain1Primary.rawValue,
            afterSplitBrain2Primaries: options.afterSplitBrain2Primaries.rawValue, connectionFlags: flags,
            twoPrimaries: options.allowTwoPrimaries ? 1 : 0, integrityAlgorithm: options.dataIntegrityAlgorithm)
        send(.data, nil, update ? .protocolUpdate(parameters) : .protocolParameters(parameters))
    }

    /// The per-volume part; also for a volume that appears on an established connection.
    mutating func sendVolumeParameters(_ v: Int) {
        volumes[v].sequence = 0
        volumes[v].peerSequence = 0
        volumes[v].peerIdentifiers = nil
        volumes[v].discardMyData = link.discardMyData
        volumes[v].sentHandshake = true
        volumes[v].heardNothing = true
        rotateBeforeComparison(v)
        volumes[v].toldIdentifier = volumes[v].identifiers.current
        sendSyncParameters(v)
        sendSizes(v, askForReply: false)
        sendUUIDs(v)
        sendState(v)
    }

    mutating func sendSyncParameters(_ v: Int) {
        let options = volumes[v].state.disk.hasMetadata ? volumes[v].diskOptions : DiskOptions()
        send(
            .data, v,
            .syncParameters(
                SyncParameters(
                    resyncRate: UInt32(clamping: options.resyncRate), verifyAlgorithm: link.options.verifyAlgorithm,
                    checksumAlgorithm: link.options.checksumAlgorithm, planAhead: UInt32(clamping: options.cPlanAhead),
                    delayTarget: UInt32(clamping: options.cDelayTarget),
                    fillTarget: UInt32(clamping: options.cFillTarget), maximumRate: UInt32(clamping: options.cMaxRate))))
    }

    /// Largest request in bytes at the agreed version, as we announce it (`wire.md` 2.3).
    var maximumRequest: UInt32 {
        switch link.version {
        case ..<95: 32_768
        case 95..<100: 131_072
        default: 1_048_576
        }
    }

    /// Largest request in bytes that the peer takes: below version 94 what it announces is a limit (`wire.md` 4.7).
    func maximumRequest(_ v: Int) -> UInt32 {
        link.version < 94 ? min(maximumRequest, volumes[v].peerMaximumRequest & ~4095) : maximumRequest
    }

    mutating func sendSizes(_ v: Int, askForReply: Bool, flags: UInt16 = 0) {
        let volume = volumes[v].state.disk
        let hasDisk = volume.hasMetadata
        let limits = QueueLimits(
            physicalBlockSize: hasDisk ? volumes[v].physicalBlockSize : 4096,
            logicalBlockSize: hasDisk ? volumes[v].logicalBlockSize : 512,
            minimumIO: hasDisk ? volumes[v].physicalBlockSize : 4096,
            discardEnabled: hasDisk && volumes[v].canDiscard)
        send(
            .data, v,
            .sizes(
                SizesPacket(
                    diskSize: hasDisk ? volumes[v].usableSectors : 0,
                    userSize: hasDisk ? volumes[v].diskOptions.size : 0,
                    currentSize: askForReply ? 0 : volumes[v].sectors, maximumRequest: maximumRequest, resizeFlags: flags,
                    limits: link.features.contains(.writeSame) ? limits : nil)))
    }

    // MARK: The peer's side

    mutating func protocolReceived(_ packet: ProtocolParameters, update: Bool) {
        if update { return protocolUpdated(packet) }
        if link.phase == .authentication { return authenticationRejected("expected AuthChallenge packet") }
        guard link.phase == .parameters else { return connectionFailed(.protocolError) }
        let options = link.options
        func mapped(_ value: UInt32) -> UInt32 { value == 5 ? 6 : value == 6 ? 5 : value }
        let wrong: (name: String, reason: DisconnectReason)? =
            if packet.replicationProtocol != UInt32(options.replicationProtocol.rawValue) {
                ("protocol", .differentProtocol)
            } else if mapped(packet.afterSplitBrain0Primaries) != options.afterSplitBrain0Primaries.rawValue {
                ("after-sb-0pri", .differentAfterSplitBrain0Primaries)
            } else if mapped(packet.afterSplitBrain1Primary) != options.afterSplitBrain1Primary.rawValue {
                ("after-sb-1pri", .differentAfterSplitBrain1Primary)
            } else if mapped(packet.afterSplitBrain2Primaries) != options.afterSplitBrain2Primaries.rawValue {
                ("after-sb-2pri", .differentAfterSplitBrain2Primaries)
            } else if packet.connectionFlags & 1 != 0, volumes.contains(where: { $0.discardMyData }) {
                ("discard-my-data", .bothDiscardData)
            } else if (packet.twoPrimaries != 0) != options.allowTwoPrimaries {
                ("allow-two-primaries", .differentTwoPrimaries)
            } else if link.version >= 87, packet.integrityAlgorithm != options.dataIntegrityAlgorithm {
                ("data-integrity-alg", .differentIntegrityAlgorithm)
            } else {
                nil
            }
        if let wrong {
            log(.error, nil, "incompatible \(wrong.name) settings")
            return refusePeer(wrong.reason)
        }
        link.peerWantsDryRun = packet.connectionFlags & 2 != 0
        link.receivedProtocol = true
        if link.version >= 87, let algorithm = DigestAlgorithm(options.dataIntegrityAlgorithm) {
            link.integrity = algorithm
            link.peerIntegrity = algorithm
            log(.info, nil, "peer data-integrity-alg: \(algorithm.name)")
            tellWireFormat()
        }
    }

    private mutating func protocolUpdated(_ packet: ProtocolParameters) {
        guard link.phase == .established || link.phase == .parameters, link.version >= 100,
            let replication = ReplicationProtocol(rawValue: UInt8(truncatingIfNeeded: packet.replicationProtocol)),
            packet.replicationProtocol <= 3
        else { return connectionFailed(.protocolError) }
        let algorithm = DigestAlgorithm(packet.integrityAlgorithm)
        guard packet.integrityAlgorithm.isEmpty || algorithm != nil else {
            // From its next packet on there would be digests where we expect data (`wire.md` 4.4, 7.9).
            log(.error, nil, "peer data-integrity-alg \(packet.integrityAlgorithm) not supported")
            return refusePeer(.unknownAlgorithm)
        }
        // Its own packets change at once, ours with our own setting.
        link.options.dataIntegrityAlgorithm = packet.integrityAlgorithm
        if algorithm != link.peerIntegrity {
            link.peerIntegrity = algorithm
            log(.info, nil, "peer data-integrity-alg: \(algorithm?.name ?? "<not-used>")")
            tellWireFormat()
        }
        func mapped(_ value: UInt32) -> SplitBrainPolicyValue? {
            SplitBrainPolicyValue(rawValue: value == 5 ? 6 : value == 6 ? 5 : value)
        }
        link.options.replicationProtocol = replication
        link.options.afterSplitBrain0Primaries =
            mapped(packet.afterSplitBrain0Primaries) ?? link.options.afterSplitBrain0Primaries
        link.options.afterSplitBrain1Primary =
            mapped(packet.afterSplitBrain1Primary) ?? link.options.afterSplitBrain1Primary
        link.options.afterSplitBrain2Primaries =
            mapped(packet.afterSplitBrain2Primaries) ?? link.options.afterSplitBrain2Primaries
        link.options.allowTwoPrimaries = packet.twoPrimaries != 0
    }

    mutating func syncParametersReceived(_ v: Int, _ packet: SyncParameters) {
        if volumes[v].state.connection == .wfReportParams {
            if link.version >= 88, packet.verifyAlgorithm != link.options.verifyAlgorithm {
                log(.error, v, "Different verify-alg settings. me=\"\(link.options.verifyAlgorithm)\" peer=\"\(packet.verifyAlgorithm)\"")
                return refusePeer(.differentVerifyAlgorithm)
            }
            if link.version >= 89, packet.checksumAlgorithm != link.options.checksumAlgorithm {
                log(.error, v, "Different csums-alg settings. me=\"\(link.options.checksumAlgorithm)\" peer=\"\(packet.checksumAlgorithm)\"")
                return refusePeer(.differentChecksumAlgorithm)
            }
        } else {
            // What the version has no field for stays as it is.
            let verify = link.version >= 88 ? packet.verifyAlgorithm : link.options.verifyAlgorithm
            let checksum = link.version >= 89 ? packet.checksumAlgorithm : link.options.checksumAlgorithm
            guard adoptAlgorithms(v, verify: verify, checksum: checksum) else { return }
        }
        guard volumes[v].state.disk.hasMetadata else { return }
        volumes[v].diskOptions.resyncRate = Int(packet.resyncRate)
        if link.version >= 95 {
            volumes[v].diskOptions.cPlanAhead = min(Int(packet.planAhead), 300)
            volumes[v].diskOptions.cDelayTarget = Int(packet.delayTarget)
            volumes[v].diskOptions.cFillTarget = Int(packet.fillTarget)
            volumes[v].diskOptions.cMaxRate = Int(packet.maximumRate)
        }
        adoptResyncOptions(v)
    }

    /// The peer's digests become ours. False if we have none of that name.
    private mutating func adoptAlgorithms(_ v: Int, verify: String, checksum: String) -> Bool {
        if verify != link.options.verifyAlgorithm || checksum != link.options.checksumAlgorithm {
            for name in [verify, checksum] where !name.isEmpty && DigestAlgorithm(name) == nil {
                log(.error, v, "failed to allocate \(name)")
                connectionFailed(.disconnecting, because: .unknownAlgorithm)
                return false
            }
            log(.info, v, "using verify-alg: \"\(verify)\", csums-alg: \"\(checksum)\"")
            link.options.verifyAlgorithm = verify
            link.options.checksumAlgorithm = checksum
            tellWireFormat()
        }
        return true
    }

    // MARK: Sizes (`wire.md` 4.6)

    mutating func sizesReceived(_ v: Int, _ packet: SizesPacket) {
        let state = volumes[v].state
        volumes[v].peerLimits = packet.limits
        volumes[v].peerMaximumRequest = max(packet.maximumRequest, 4096)
        exportMayHaveChanged(v)
        guard state.disk.isUsable else {
            // Who asks for our size has changed its disk, but without one of ours its device keeps its size.
            if packet.currentSize == 0, volumes[v].sectors != 0, state.connection.isConnected { return }
            switch DeviceSize.receivedWithoutDisk(packet, current: volumes[v].sectors, role: state.role) {
            case .keep: break
            case .ignorePeerWithoutDisk: log(.warning, v, "some backward compatible peer without disk repeats our size")
            case .resize(let sectors):
                // A disk on its way in has no more than it has; then the peer will not have it.
                setSize(v, volumes[v].superblock == nil ? sectors : min(sectors, volumes[v].usableSectors))
            case .wouldShrinkPrimary:
                log(.error, v, "The peer's device is smaller than ours, which is in use")
                refusePeer(.peerTooSmall)
            }
            if state.disk == .negotiating { volumes[v].peerDiskSize = packet.diskSize }
            return
        }
        if packet.currentSize == 0, state.connection.isConnected { return resizeRequested(v, packet) }
        let roles = (own: volumes[v].resizeAsked?.role ?? state.role, peer: state.peerRole)
        volumes[v].resizeAsked = nil
        let before = volumes[v].sectors
        guard adoptPeerSize(v, packet) else { return }
        if state.connection.isConnected { followSizes(v, packet, grew: volumes[v].sectors > before, roles: roles) }
    }

    // MARK: Identifiers (`wire.md` 4.8)

    mutating func uuidsReceived(_ v: Int, _ packet: UUIDsPacket) {
        let state = volumes[v].state
        volumes[v].peerIdentifiers = packet.identifiers
        volumes[v].peerFlags = packet.flags
        volumes[v].peerDirtyBits = packet.dirtyBits
        let shaky = !state.connection.isConnected || state.peerDisk == .diskless
        if shaky, state.disk < .inconsistent, state.role == .primary, volumes[v].exposedIdentifier != 0,
            volumes[v].exposedIdentifier & ~1 != packet.identifiers.current & ~1 || volumes[v].peerIsBehind
        {
            log(.error, v, "Can only connect to data with current UUID=\(GenerationIdentifiers.hex(volumes[v].exposedIdentifier))")
            return refusePeer(.peerLacksDataInUse)
        }
        if state.disk.isUsable {
            if state.connection == .connected, link.version >= 90,
                volumes[v].identifiers.current == GenerationIdentifiers.justCreated,
                packet.flags.contains(.skipInitialSync)
            {
                log(.info, v, "Accepted new current UUID, preparing to skip initial sync")
                volumes[v].bitmap.clearAll()
                volumes[v].bitmap.markAllPagesDirty()
                volumes[v].identifiers.current = packet.identifiers.current
                storeRoleBit(v)
                volumes[v].identifiers.bitmap = 0
                volumes[v].peerHasOldIdentifiers = true
                setState(v) {
                    $0.disk = .upToDate
                    $0.peerDisk = .upToDate
                }
                enqueue(v, .changedPages, .superblock)
            }
        } else if volumes[v].exposedIdentifier != 0, state.peerDisk != .upToDate {
            // The target of a resync that lost its source shows nothing to anybody.
        } else if state.role == .primary || (state.disk != .negotiating && state.connection.isConnected) {
            // Also while a disk of ours is on its way out or in: applications go on with what the peer has now. A disk
            // that is Negotiating when the peer vanishes is compared with it (`sanitized`).
            volumes[v].exposedIdentifier = packet.identifiers.current
        }
    }
}
