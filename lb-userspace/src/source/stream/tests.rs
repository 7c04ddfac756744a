mod authority;
mod cluster;
mod damage;
mod following;
mod rotation;
mod steps;
mod trust;
