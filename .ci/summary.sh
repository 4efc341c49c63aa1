# The last lines of .ci/run and .ci/night, which source this file: each step with its seconds.
summary=() red=()

note() { # STEP CODE SECONDS: how a step ended
    local verdict=green
    [ "$2" -eq 0 ] || { verdict=RED; red+=("$1"); }
    summary+=("$1: $verdict, $3 s")
}

tell() { # NAME: print the summary; 1 if a step is red
    printf '%s\n' "" "== the $1: $SECONDS s" "${summary[@]}"
    [ ${#red[@]} -eq 0 ] || { echo "red: ${red[*]}" >&2; return 1; }
}
