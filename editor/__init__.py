"""What the editor shows of a graph before it runs: over which sampling steps each NAG node acts."""
