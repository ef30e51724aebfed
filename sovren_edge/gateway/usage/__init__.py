"""What subscribers have used and spent, told to those who may ask."""
