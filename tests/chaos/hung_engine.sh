# A USI engine that halts itself when it is asked for its first move.
while read -r line; do
  case "$line" in
    usi) echo usiok ;;
    isready) echo readyok ;;
    go*) kill -STOP $$ ;;
    quit) exit ;;
  esac
done
