//! scratch
use op_dbus_vm::{*, debian::profile::Suite, player::Progress};
fn main() {
    let run = || -> Result<()> {
    sandbox::enter()?;
    let cache = cache::Cache::open()?;
    let programs = programs::Programs::find()?;
    let releases = release::Releases::demo(&cache, &programs)?;
    let say = |p: Progress<'_>| match p { Progress::Note(n) => println!("    {n}"), Progress::Ended(b) => println!("{}", b.line()) };
    let arg = std::env::args().nth(1).unwrap();
    if arg == "light" { prepared::light(&cache, Suite::Bookworm, &programs, &releases, say)?; }
    else { prepared::debian(&cache, arg.parse()?, &programs, &releases, say)?; }
    Ok(()) };
    if let Err(e) = run() { println!("{e}"); }
}
