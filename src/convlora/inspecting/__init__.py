"""What the adapters of a run do: measures of its encoder and decoder on a few images, and the page that shows them."""
