/// What the ring of a log says about a node that stopped (`metadata.md` 4.9).
package struct ActivityLogReplay: Equatable, Sendable {
    package enum Outcome: Equatable, Sendable {
        /// Initialised, nothing is hot.
        case empty
        /// Extents that may differ, ascending, each once; possibly none.
        case updates([UInt32])
        /// No block carries a transaction at all.
        case noUsableLog
        /// Initialised blocks and damaged ones: what was hot cannot be told.
        case unusable
    }

    package var outcome: Outcome
    /// Blocks that are no transaction.
    package var corruptBlocks: Int
    /// The highest transaction number, if there are updates: writing goes on with the next one.
    package var newestNumber: UInt32?
    /// Entries for slots that cannot exist, which were left out.
    package var slotsOutOfRange: Int

    /// Replays a ring given in disk order.
    package init(ring: RawSpan, geometry: ActivityLogGeometry) {
        var blocks: [ActivityLogTransaction?] = []
        if ring.byteCount / ActivityLogTransaction.blockBytes >= Int(geometry.blocks) {
            blocks.reserveCapacity(Int(geometry.blocks))
            for position in 0..<Int(geometry.blocks) { blocks.append(Self.block(at: position, of: ring, geometry)) }
        }
        self.init(blocks: blocks, geometry: geometry)
    }

    /// Replays the transactions of a ring in the order in which they were written; nil for a block that is none.
    package init(blocks: [ActivityLogTransaction?], geometry: ActivityLogGeometry) {
        outcome = .noUsableLog
        newestNumber = nil
        slotsOutOfRange = 0
        let count = blocks.count
        corruptBlocks = Int(geometry.blocks)
        guard count == Int(geometry.blocks) else { return }

        var oldest: (number: UInt32, position: Int)?
        var newest: (number: UInt32, position: Int)?
        var valid = 0
        var isFirstValid = false
        for position in 0..<count {
            guard let block = blocks[position] else { continue }
            valid += 1
            if position == 0 { isFirstValid = true }
            guard block.type != ActivityLogTransaction.typeInitialised else { continue }
            if oldest.map({ Int32(bitPattern: block.number &- $0.number) < 0 }) ?? true {
                oldest = (block.number, position)
            }
            if newest.map({ Int32(bitPattern: block.number &- $0.number) > 0 }) ?? true {
                newest = (block.number, position)
            }
        }
        corruptBlocks = count - valid
        if valid == 0 { return }
        guard let oldest, let newest else {
            outcome = valid == count || (valid == count - 1 && !isFirstValid) ? .empty : .unusable
            return
        }
        newestNumber = newest.number

        var hot: [UInt32] = []
        var position = oldest.position
        while true {
            if let block = blocks[position], block.type != ActivityLogTransaction.typeInitialised {
                slotsOutOfRange += Self.apply(block, to: &hot)
            }
            if position == newest.position { break }
            position = position + 1 == count ? 0 : position + 1
        }
        var extents = hot.filter { $0 != ActivityLogTransaction.freeExtent }
        extents.sort()
        var distinct: [UInt32] = []
        for extent in extents where distinct.last != extent { distinct.append(extent) }
        outcome = .updates(distinct)
    }

    package init(ring: [UInt8], geometry: ActivityLogGeometry) {
        self.init(ring: unsafe ring.span.bytes, geometry: geometry)
    }

    /// - Returns: entries for slots that cannot exist.
    private static func apply(_ block: ActivityLogTransaction, to hot: inout [UInt32]) -> Int {
        var outOfRange = 0
        for index in 0..<Limits.activityLogContext {
            let slot = Int(block.contextStart) + index
            let extent = block.context[index]
            if extent == ActivityLogTransaction.freeExtent && slot >= Int(block.contextSize) { continue }
            if !set(slot, extent, in: &hot) { outOfRange += 1 }
        }
        for update in block.updates where !set(Int(update.slot), update.extent, in: &hot) { outOfRange += 1 }
        return outOfRange
    }

    /// False for a slot that cannot exist.
    private static func set(_ slot: Int, _ extent: UInt32, in hot: inout [UInt32]) -> Bool {
        guard slot < Int(ActivityLogTransaction.slotLimit) else { return false }
        while slot >= hot.count { hot.append(ActivityLogTransaction.freeExtent) }
        hot[slot] = extent
        return true
    }

    private static func block(
        at position: Int, of ring: RawSpan, _ geometry: ActivityLogGeometry
    ) -> ActivityLogTransaction? {
        let start = Int(geometry.block(ofPosition: UInt32(position))) * ActivityLogTransaction.blockBytes
        do {
            return try ActivityLogTransaction(
                decoding: ring.extracting(start..<start + ActivityLogTransaction.blockBytes))
        } catch {
            return nil  // Counted by the caller; which of the reasons it was decides nothing.
        }
    }
}
