/// One sentence or two for each command and each of its options: what `help COMMAND` and the manual say.
/// A test holds them against `CommandTable`.
enum CommandDescriptions {
    static func text(of command: String) -> String? { commands.first { $0.name == command }?.text }

    /// - Parameter option: with its command's own meaning, if it has one there.
    static func text(of option: String, in command: String) -> String? {
        options.first { $0.command == command && $0.option == option }?.text
            ?? options.first { $0.command == nil && $0.option == option }?.text
    }

    static let commands: [(name: String, text: String)] = [
        ("attach", "Attaches the disk to the running resource, after applying its activity log."),
        ("detach", "Lets go of the disk; the resource goes on without it, through the peer."),
        ("disk-options", "Sets the disk options of the configuration while the disk stays attached."),
        ("connect", "Looks for the peer, and accepts it."),
        ("disconnect", "Ends the connection and looks for the peer no more."),
        ("net-options", "Sets the net options of the configuration while the connection stays up."),
        ("resource-options", "Sets the options of the section `options`."),
        ("up", "Starts the resource: its daemon, its disks, its connection. Of a resource that runs, use `adjust`."),
        (
            "down",
            "Stops the resource: demotes it, disconnects, detaches, and ends its daemon. Refused while a client has the device open."
        ),
        ("primary", "Makes this node Primary: applications may use the device here."),
        ("secondary", "Makes this node Secondary. Refused while a client has the device open."),
        ("invalidate", "Declares the local data bad: all of it is copied from the peer."),
        ("invalidate-remote", "Declares the peer's data bad: all of it is copied from here."),
        ("outdate", "Marks the local data as older than the peer's, so that nobody takes it into use by mistake."),
        ("resize", "Takes a grown disk into use, on both nodes."),
        ("verify", "Compares both disks while they are in use; blocks that differ are counted and marked out of sync."),
        ("pause-sync", "Holds a resync until `resume-sync`."),
        ("resume-sync", "Lets a resync go on that `pause-sync` held."),
        (
            "adjust",
            "Makes what runs agree with the configuration, by what has to change only; starts the resource if it does not run."
        ),
        ("adjust-with-progress", "As `adjust`, and prints what it does as start scripts like to."),
        ("wait-connect", "Waits until the peer is there, as long as the section `startup` says."),
        ("wait-con-int", "Waits for the peers of all resources; on a terminal, `yes` ends it."),
        ("wait-sync", "Waits until nothing is being synchronised, with a bar on a terminal."),
        ("role", "Prints the roles of this node and of its peer."),
        ("cstate", "Prints the state of the connection."),
        ("dstate", "Prints the states of the local and of the peer's disk."),
        ("status", "Prints the state of the resources."),
        ("dump", "Prints the configuration in one normal form."),
        ("dump-xml", "Prints the configuration as XML."),
        ("create-md", "Writes new metadata: an empty activity log, a bitmap, no data generation."),
        ("show-gi", "Prints the data generation identifiers, and explains them."),
        ("get-gi", "Prints the data generation identifiers."),
        ("dump-md", "Prints the metadata as text that `restore-md` reads. The resource must be down."),
        ("wipe-md", "Destroys the metadata. The resource must be down."),
        ("apply-al", "Moves the activity log of a crash into the bitmap, as `attach` would."),
        ("hidden-commands", "Lists the commands that `help` does not."),

        ("sh-nop", "Reads the configuration and complains of what is wrong."),
        ("sh-resources", "Prints the names of all resources of this node."),
        ("sh-resource", "Prints the resource's name."),
        ("sh-mod-parms", "Prints parameters for the kernel's module."),
        ("sh-dev", "Prints the device's path."),
        ("sh-udev", "Prints what udev rules import."),
        ("sh-minor", "Prints the device's minor number."),
        ("sh-ll-dev", "Prints the disk's path."),
        ("sh-md-dev", "Prints the path of the device that holds the metadata."),
        ("sh-md-idx", "Prints the place of the metadata: `internal`, `flexible`, or a number."),
        ("sh-ip", "Prints this node's address."),
        ("sh-lr-of", "Prints the resource below a stacked one."),
        ("sh-b-pri", "Makes this node Primary if `become-primary-on` says so."),
        ("sh-status", "Prints the state as assignments of a shell."),
        ("sh-manual", "Prints a page of this manual, or the completions for bash."),
        ("proxy-up", "Does nothing; accepted for the sake of scripts."),
        ("proxy-down", "Does nothing; accepted for the sake of scripts."),
        ("new-resource", "Starts the daemon of a resource, without disks and connection."),

        ("before-resync-target", "Runs this handler."),
        ("after-resync-target", "Runs this handler."),
        ("before-resync-source", "Runs this handler."),
        ("pri-on-incon-degr", "Runs this handler."),
        ("pri-lost-after-sb", "Runs this handler."),
        ("fence-peer", "Runs this handler."),
        ("unfence-peer", "Runs this handler."),
        ("local-io-error", "Runs this handler."),
        ("pri-lost", "Runs this handler."),
        ("initial-split-brain", "Runs this handler."),
        ("split-brain", "Runs this handler."),
        ("out-of-sync", "Runs this handler."),

        ("new-minor", "Adds a volume to a running resource."),
        ("suspend-io", "Holds all I/O of the volume until `resume-io`."),
        ("resume-io", "Lets I/O go on, also I/O that a fencing policy holds."),
        ("set-gi", "Overwrites the data generation identifiers. The resource must be down."),
        (
            "new-current-uuid",
            "Begins a new data generation; with `--clear-bitmap` on two fresh disks, the first copy is left out."
        ),
        ("check-resize", "Finds the metadata of a disk that grew while the resource was down, and moves it to the end."),

        ("syncer", "As `disk-options` and `net-options`; the name that 8.3 had for them."),
        (
            "events2",
            "Prints what exists, then each change of it and each handler, as `drbdsetup events2` does. Without a name: every resource of this node, also those that come later."
        ),
        (
            "metrics",
            "Prints states, counters, the progress of a resync, and histograms of how long requests took, in the text format of Prometheus."
        ),
        ("show", "Prints the options that are in force."),
        ("proc", "Prints the status text."),
        ("service-status", "Prints the table of DRBD's init script: a line for each device, with what is mounted."),
        ("trace", "Prints each packet that passes."),
        (
            "upgrade",
            "Has the daemon hand over to the program that is installed now. What runs goes on as it is, whatever the configuration says by now: devices stay and their applications see a short pause, whose length is printed; the peer is met again. Refused while something would be lost."
        ),
        (
            "doctor",
            "Says in plain words what the situation is, what is safe and what not, and which commands to type on which node. Changes nothing, and does not wait for a daemon, disk or peer that does not answer. Ends with 0 if there is nothing to do, 1 if there is, and 2 if data is at risk or there is no service."
        ),
        ("recording", "Has the daemon write its last events and decisions, for `replsim replay`."),
        ("decode", "Explains captures, superblocks and activity logs."),
    ]

    static let options: [(command: String?, option: String, text: String)] = [
        ("primary", "force", "Takes data into use that is not known to be good, and makes it the good data of both nodes."),
        ("primary", "overwrite-data-of-peer", "The same as `--force`."),
        ("disconnect", "force", "Does not ask the peer first."),
        ("detach", "force", "Does not wait for I/O on its way to the disk."),
        ("set-gi", "force", "Does not ask."),
        ("upgrade", "force", "Ends a running verify, and cuts off the clients of the NBD socket."),
        (nil, "force", "Does not ask, and overwrites what is there."),
        ("dump-md", "force", "Prints metadata that is in use, too."),
        (nil, "set-defaults", "Sets all options that are not named to their defaults."),
        (nil, "discard-my-data", "After a split brain: this node's changes are given up."),
        (nil, "tentative", "Connects, says in the log which way data would be copied, and disconnects."),
        (nil, "dry-run", "Behind `--`: the name that 8.3 had for `--tentative`."),
        ("status", "verbose", "All fields, with the defaults."),
        (nil, "statistics", "Counters, too."),
        ("status", "json", "As JSON, in the form of drbdsetup 9."),
        ("doctor", "json", "As JSON: situations by name, and the commands."),
        (nil, "xml", "As XML, in the form of 8.3."),
        (nil, "peer-max-bio-size", "The largest request of a peer that is not there, in bytes; kept in the metadata."),
        (nil, "al-stripes", "The number of stripes of the activity log."),
        (nil, "al-stripe-size-kB", "The size of a stripe, in KiB."),
        (nil, "al-stripe-size", "The size of a stripe, in bytes."),
        (nil, "ignore-sanity-checks", "Writes metadata whose form the checks refuse."),
        (nil, "wfc-timeout", "Waits for the peer for that many seconds; 0 is for ever."),
        (nil, "degr-wfc-timeout", "The same for a node that was Primary and alone when it went down."),
        (nil, "outdated-wfc-timeout", "The same if the peer's data is known to be outdated."),
        (nil, "wait-after-sb", "Waits on although a split brain has ended the connection."),
        ("verify", "start", "The first sector to compare."),
        ("verify", "stop", "The sector to stop at."),
        ("resize", "size", "The size to use; the smaller disk's otherwise. The only way to shrink a device."),
        ("resize", "assume-peer-has-space", "Grows without the peer, whose disk has grown as well, it is said."),
        ("resize", "assume-clean", "Does not copy the new space: nothing is in it."),
        (nil, "clear-bitmap", "Both disks count as equal from now on."),
        ("metrics", "file", "The file to replace with them, for node_exporter's textfile collector."),
        (nil, "now", "Prints what is, and ends."),
        (nil, "timestamps", "The time in front of each line."),
        (nil, "show-defaults", "Options that have their defaults, too."),
        (nil, "pcap", "Writes a capture that Wireshark reads, into this file."),
        (nil, "count", "Ends after that many packets."),
    ]

    /// Options that any command takes: in the order of the help text.
    static let general: [(name: String, text: String)] = [
        ("stacked", "Works on stacked resources, and on those only."),
        ("dry-run", "Prints the low-level commands, and runs none."),
        ("verbose", "Prints the low-level commands before running them."),
        ("config-file", "Reads this file, `-` being standard input, and no other."),
        ("config-to-test", "With `dump` or `sh-nop`: reads this file in addition, and reports conflicts."),
        ("drbdsetup", "Accepted, and used as the program's name in what is printed."),
        ("drbdmeta", "Accepted, and used as the program's name in what is printed."),
        ("drbd-proxy-ctl", "Accepted; there is no proxy."),
        ("sh-varname", "With `--dry-run` or `--verbose`: prints NAME=RESOURCE in front of a resource's commands."),
        ("peer", "Takes this host for the peer where the configuration names several."),
        ("version", "Prints the version of DRBD that this node is to others, as assignments of a shell."),
        ("product-version", "Prints the version of Replica."),
        ("setup-option", "Appends an option to the low-level command."),
        ("help", "Prints the options of a command, or the list of commands."),
        ("force", "Is for those commands that have such an option."),
    ]
}
