"""Pictures and controls: a record in, a plotly figure or a widget out."""
