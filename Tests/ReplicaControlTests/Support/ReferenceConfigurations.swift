/// Configurations that must load (`control.md` 1.14), as administrators write them.
enum Reference {
    /// 8.3 style, everything in one file; the source of the `dump` listing in `control.md` 1.12.
    static let classic = """
        global {
            usage-count yes;
        }
        common {
          protocol C;
          syncer { rate 10M; }
        }
        resource disk0 {
          net {
            cram-hmac-alg "sha1";
            shared-secret "himitu";
          }
          on server1.localdomain {
            device    /dev/drbd0;
            disk      /dev/vgwk/lvbk;
            address   192.168.78.129:7788;
            meta-disk internal;
          }
          on server2.localdomain {
            device    /dev/drbd0;
            disk      /dev/vgwk/lvbk;
            address   192.168.78.130:7788;
            meta-disk internal;
          }
        }

        """

    static func classicDump(file: String) -> String {
        """
        # \(file)
        global {
            usage-count yes;
        }

        common {
            net {
                protocol           C;
            }
            disk {
                resync-rate      10M;
            }
        }

        # resource disk0 on server1.localdomain: not ignored, not stacked
        # defined at \(file):8
        resource disk0 {
            on server1.localdomain {
                device           /dev/drbd0 minor 0;
                disk             /dev/vgwk/lvbk;
                meta-disk        internal;
                address          ipv4 192.168.78.129:7788;
            }
            on server2.localdomain {
                device           /dev/drbd0 minor 0;
                disk             /dev/vgwk/lvbk;
                meta-disk        internal;
                address          ipv4 192.168.78.130:7788;
            }
            net {
                cram-hmac-alg    sha1;
                shared-secret    himitu;
            }
        }

        """
    }

    /// Empty `common` and `net` sections; 44 lines.
    static let empties: String = {
        let text = """
            #
            # two web servers
            #
            global {
              # nothing is sent anywhere
              usage-count no;
            }

            common {
            }

            resource r0 {
              protocol C;

              handlers {
                pri-on-incon-degr "echo '!DRBD! pri on incon-degr' | wall ; sleep 60 ; halt -f";
              }

              startup {
                wfc-timeout 0;
                degr-wfc-timeout 120;
              }

              disk {
                on-io-error detach;
              }

              net {
              }

              syncer {
                rate 10M;
                al-extents 257;
              }

              on web01 {
                device /dev/drbd0; disk /dev/sda7; address 192.168.1.1:7788; meta-disk internal;
              }
              on web02 {
                device /dev/drbd0; disk /dev/sda7;
                address 192.168.1.2:7788; meta-disk internal;
              }
            }

            """
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).count - 1
        return text + String(repeating: "\n", count: 44 - lines)
    }()

    /// With the two mistakes of the tutorial it comes from.
    static let mistaken = """
        global { usage-count no; }
        common { syncer { rate 500M; } }
        resource r0 {
          protocol C;
          disk { on-io-error detach; }
          on hostA {
            device /dev/drbd
            disk /dev/sdb2;
            address 10.0.0.100:7788
            meta-disk /dev/sdb1[0];
          }
          on hostB {
            device /dev/drbd0;
            disk /dev/sdb2;
            address 10.0.0.101:7788;
            meta-disk /dev/sdb1[0];
          }
        }

        """

    /// Neither `global` nor `common`, and the last brace is missing.
    static let bare = """
        resource r0 {
          protocol C;
          on alice { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.1:7788; meta-disk internal; }
          on bob { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.2:7788; meta-disk internal; }
        """

    /// The split layout of 8.4: main file, common part, one file per resource.
    static let split: [(name: String, text: String)] = [
        (
            "drbd.conf",
            """
            include "drbd.d/global_common.conf";
            include "drbd.d/*.res";

            """
        ),
        (
            "drbd.d/global_common.conf",
            """
            global { usage-count no; }
            common { startup { } options { } disk { on-io-error call-local-io-error; } net { protocol C; }
                handlers { local-io-error "/usr/lib/drbd/notify-io-error.sh; echo o > /proc/sysrq-trigger ; halt -f"; } }

            """
        ),
        (
            "drbd.d/r0.res",
            """
            resource r0 { net { cram-hmac-alg sha1; shared-secret "secret"; }
                device /dev/drbd0; disk /dev/sdb1; meta-disk internal;
                on DRBD1 { address 192.168.11.201:7777; }
                on DRBD2 { address 192.168.11.202:7777; } }

            """
        ),
    ]

    /// Two volumes, as in the recorded session of the administration tools.
    static let twoVolumes = """
        global { usage-count no; cmd-timeout-medium 600; cmd-timeout-long 0; }
        resource r0 {
          net {
            protocol C;
            ping-int 10;
            ping-timeout 15;
            verify-alg crc32c; after-sb-0pri discard-zero-changes;
          }
          disk {
            c-plan-ahead 0;
            resync-rate 30M;
          }
          volume 0 { device /dev/drbd0 minor 0; disk /dev/vda; meta-disk internal; }
          volume 1 { device /dev/drbd1 minor 1; disk /dev/vdb; meta-disk internal; }
          on alice { address 10.77.0.11:7788; }
          on bob { address 10.77.0.12:7788; }
        }

        """

    /// Two hosts named alice and bob, one volume.
    static func simple(_ extra: String = "", name: String = "r0", minor: Int = 0, port: Int = 7788) -> String {
        """
        resource \(name) {
          \(extra)
          on alice { device minor \(minor); disk /dev/sdb\(minor + 1); address 10.0.0.1:\(port); meta-disk internal; }
          on bob { device minor \(minor); disk /dev/sdb\(minor + 1); address 10.0.0.2:\(port); meta-disk internal; }
        }

        """
    }
}
