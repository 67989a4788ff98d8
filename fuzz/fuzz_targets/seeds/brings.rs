//! Files that a version may bring into the host.

use std::io;

use crate::Corpus;

const POLICY: &str = r#"<?xml version="1.0"?> <!-- a -->
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><policy user="demo"><allow own="org.opdbus.Demo"/><allow own_prefix="org.opdbus"/></policy>
<policy context="default"><deny send_destination="org.opdbus.Demo" send_member="*"></deny>
<allow receive_sender='org.opdbus.Demo' send_type="method_call"/></policy></busconfig>
"#;

const ACTIVATION: &str = "# a\n[D-BUS Service]\nName=org.opdbus.Demo\nExec=/bin/false\nUser=root\nSystemdService=demo.service\n";

const TMPFILES: &str = "d /run/demo 0755 demo :demo -\nf+ /run/demo/a 0644 - - - one %m \\x20\n\
                        L! /tmp/x - - - - /etc\nZ= /run/demo ~0750\np /run/p\nd /tmp/x/y\n";

const SYSUSERS: &str =
    "u demo 12:demos \"A demo\" /run/demo /bin/false\ng demos 321\nm demo audio\n";

pub(crate) fn all(corpus: &Corpus) -> io::Result<()> {
    for (name, text) in [
        ("policy", POLICY),
        ("activation", ACTIVATION),
        ("tmpfiles", TMPFILES),
        ("sysusers", SYSUSERS),
    ] {
        corpus.add("brings", name, text.as_bytes())?;
    }
    Ok(())
}
