# Lists the targets of a Makefile: "target: … ## what it does", below "##@ Heading" lines.
BEGIN { FS = ":.*## " }
/^##@ / { printf "\n%s\n", substr($0, 5) }
/^[a-z][a-z0-9-]*:.*## / { printf "  %-16s %s\n", $1, $2 }
