# needs: tmux
# says: inside

tmux -L own new-session -d 'echo inside >out; tmux -L own wait-for -S done' \; wait-for done && cat out
