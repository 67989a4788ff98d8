//! scratch
use op_dbus_vm::{Result, debian::profile::Suite, player::Progress, sandbox, suite::Lab};
fn main() {
    let run = || -> Result<()> {
        sandbox::enter()?;
        let lab = Lab::open()?;
        let say = |p: Progress<'_>| match p {
            Progress::Note(n) => println!("    {n}"),
            Progress::Ended(b) => println!("{}", b.line()),
        };
        let args: Vec<String> = std::env::args().skip(1).collect();
        if args[0] == "light" {
            for name in &args[1..] {
                let sc = op_dbus_vm::catalogue::find(name)?;
                for c in sc.case_names() {
                    println!("== {name} {c:?}");
                    if let Err(e) = lab.play_light(Suite::Bookworm, name, c, say).1 {
                        println!("FAIL {e}");
                    }
                }
            }
        } else {
            let n: Vec<&str> = args[1..].iter().map(String::as_str).collect();
            lab.play_debian(args[0].parse()?, &n, say).1?;
        }
        Ok(())
    };
    if let Err(e) = run() {
        println!("{e}");
    }
}
