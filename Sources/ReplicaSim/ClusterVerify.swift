import ReplicaProto

/// Online verify under test: blocks that are changed behind both cores' backs, every single result of a comparison
/// against what the two disks hold at that moment, and what a whole run has gone through.
extension Cluster {
    /// A block of each extent that no client writes.
    private static let plantedBlock = 500

    /// One disk gets other content somewhere, and nobody is told. Not while anybody compares.
    func spoil(_ node: SimNode, extent: Int) {
        guard nodes.allSatisfy({ !(state($0)?.connection.isVerifying ?? false) }) else { return }
        let block = extent % Int(scenario.sectors / ActivityLogExtent.sectors) * 1024 + Self.plantedBlock
        let range = SectorRange(UInt64(block * DataDisk.blockSectors), UInt32(DataDisk.blockSectors))
        guard range.end.value <= scenario.sectors else { return }
        planted.insert(block)
        foundBlocks.remove(block)
        trace { "\(node.name): block \(block) is changed behind its back" }
        // The number of a write that no client has made.
        let stamps = Array(repeating: nextWrite, count: DataDisk.blockSectors)
        nextWrite += 1
        node.data.write(range, stamps, durable: true, random: &random)
    }

    func plantedBlockDiffers(_ block: Int) -> Bool {
        let range = block * DataDisk.blockSectors..<(block + 1) * DataDisk.blockSectors
        return nodes[0].data.current[range] != nodes[1].data.current[range]
    }

    /// P_OV_REQUEST: one block after the other, from where the administrator said.
    func checkVerifyRequest(_ node: SimNode, _ request: BlockRequest) {
        let sector = request.sector.value
        if let next = node.verify.next {
            if sector != next { fail("\(node.name) verifies sector \(sector) after \(next)") }
        } else {
            // Before v90 every run begins at 0 (`wire-resync.md` 8.11).
            if let start = node.format.version < 90 ? 0 : node.verify.start, sector != start {
                fail("\(node.name) verifies from sector \(sector) instead of \(start)")
            }
            node.verify.first = sector
        }
        node.verify.next = request.range.end.value
    }

    /// P_OV_RESULT: the block is locked on both nodes from before its first read to this moment, so the disks tell.
    func checkVerifyResult(_ node: SimNode, _ ack: BlockAck) {
        let other = peer(of: node)
        // What is given up is called equal, whatever it is; and what cannot be read is called different.
        guard state(node)?.connection == .verifyS, state(other)?.connection == .verifyT else { return }
        verifiedBlocks += 1
        if ack.blockID == BlockID.outOfSync { foundDifferences += 1 }
        let range = Int(ack.range.start.value)..<Int(ack.range.end.value)
        let isEqual = node.data.current[range] == other.data.current[range]
        if ack.blockID == BlockID.inSync, !isEqual {
            return fail("\(node.name) verified sector \(range.lowerBound), and it differs")
        }
        if ack.blockID == BlockID.outOfSync, isEqual, !hadReadFault {
            return fail("\(node.name) calls sector \(range.lowerBound) different, and it is not")
        }
    }

    /// What a verify has found is only marked; the next resync repairs it, and comes if one node is Primary when the
    /// connection ends (`wire-resync.md` 8.11). Either node may be the only one that still knows: the other's bitmap may have
    /// been what its disk failed to write. True if there is nothing else to do for this node now.
    func repairsDifferences(_ node: SimNode, _ state: VolumeState) -> Bool {
        guard scenario.compares, nodes.contains(where: { $0.core.outOfSyncBits(of: Self.volume) > 0 }) else { return false }
        let other = peer(of: node)
        let otherIsPrimary = self.state(other)?.role == .primary || isBeingPromoted(other)
        guard state.role == .primary else { return otherIsPrimary }
        if !otherIsPrimary { command(node, .disconnect(force: false)) } else if node.index == 1 { demote(node) }
        return true
    }

    func verifyAccepted(_ node: SimNode, start: UInt64?, stop: UInt64?) {
        if !node.verify.getsOtherEnd { node.verify.start = start }
        node.verify.stop = stop ?? .max
    }

    /// Looks for the beginning and the end of a run, after every step.
    func watchVerify(_ node: SimNode, _ own: VolumeState) {
        let isVerifying = own.connection == .verifyS
        defer { node.verify.isRunning = isVerifying }
        if isVerifying, !node.verify.isRunning {
            node.verify.first = nil
            node.verify.next = nil
        }
        guard node.verify.isRunning, own.connection == .connected, own.disk == .upToDate, own.peerDisk == .upToDate else { return }
        verifyRuns += 1
        guard let first = node.verify.first, let next = node.verify.next else { return }
        let end = min(node.verify.stop, node.core.sectors(of: Self.volume))
        if next < end { return fail("\(node.name) has verified up to sector \(next) instead of \(end)") }
        for block in planted.sorted() where block * 8 >= first && block * 8 < next && plantedBlockDiffers(block) {
            // Whose disk has failed at the same moment knows nothing any more, and is compared when it comes back.
            for node in nodes
            where state(node)?.disk == .upToDate && !node.core.isOutOfSync(BitmapBlock(UInt64(block)), of: Self.volume) {
                return fail("block \(block) was changed, and \(node.name) does not know after a verify")
            }
            foundBlocks.insert(block)
        }
    }
}

/// One online verify, as its initiator goes on with it; in sectors.
struct VerifyWatch {
    var isRunning = false
    /// The open command only moves the end of a run that is on its way.
    var getsOtherEnd = false
    /// What was asked for; nil: from where the run before has ended.
    var start: UInt64?
    var stop = UInt64.max
    var first: UInt64?
    var next: UInt64?
}
